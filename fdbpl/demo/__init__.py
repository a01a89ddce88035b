"""The synthetic demo data: drawn images of nameable things, their captions, and small CLIPs pre-trained on them."""
