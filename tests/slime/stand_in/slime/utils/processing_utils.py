"""slime's encoder of images for a server."""


def encode_image_for_rollout_engine(image):
    return f"encoded:{image}"
