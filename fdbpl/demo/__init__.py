"""The demo world: drawn pictures of nameable things, their captions, and small CLIPs pre-trained on them."""
