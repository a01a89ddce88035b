"""Methods, one file each: a student (what is trained), its settings, and its registered trainers.

`fdbpl.engine.registry` imports every module of this folder: a new method is one file that registers its trainer and,
where it has settings, defines `extend_cfg(cfg)`.
"""
