def tokenize(*arguments, **keywords):
    raise RuntimeError("the host's edited clip")
