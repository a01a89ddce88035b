def build_model(state_dict, design_details):
    raise RuntimeError("the host's edited clip")
