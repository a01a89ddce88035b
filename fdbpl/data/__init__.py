"""Data sets on disk: split files, few-shot lists, image folders, download and preparation."""
