"""
Brightness, contrast, saturation and hue of RGB images in [0, 1], shape ``(B, 3, H, W)``.

The formulas are those of torchvision's ``transforms.functional`` for float tensors, clipped to [0, 1].
"""

import torch as th

# ITU-R 601-2, as in PIL and torchvision
LUMA = (0.2989, 0.587, 0.114)


def brightness(images: th.Tensor, factor: float) -> th.Tensor:
    """
    :param images: shape ``(B, C, H, W)``, in [0, 1]
    :param factor: not negative; 0 gives black, 1 the same image
    :return: the images times the factor
    """
    return _blend(images, th.zeros_like(images), factor)


def contrast(images: th.Tensor, factor: float) -> th.Tensor:
    """
    :param images: shape ``(B, C, H, W)``, in [0, 1], one or three channels
    :param factor: not negative; 0 gives each image's mean luminance everywhere, 1 the same image
    :return: the images with this contrast
    """
    return _blend(images, grayscale(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def saturation(images: th.Tensor, factor: float) -> th.Tensor:
    """
    :param images: shape ``(B, 3, H, W)``, in [0, 1]
    :param factor: not negative; 0 gives shades of grey, 1 the same image
    :return: the images with this saturation
    """
    return _blend(images, grayscale(images), factor)


def hue(images: th.Tensor, shift: float) -> th.Tensor:
    """
    :param images: shape ``(B, 3, H, W)``, in [0, 1]
    :param shift: in turns of the color wheel, -0.5 to 0.5; 0 gives the same image
    :return: the images with all hues shifted
    """
    hues, saturations, values = rgb_to_hsv(images)
    return hsv_to_rgb(hues + shift, saturations, values)


def grayscale(images: th.Tensor) -> th.Tensor:
    """Luminance, shape ``(B, 1, H, W)``, of images with one or three channels."""
    if images.shape[1] == 1:
        return images
    weights = th.tensor(LUMA).to(images)
    return (images * weights[:, None, None]).sum(dim=1, keepdim=True)


def rgb_to_hsv(images: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    """Hue in turns (0 for shades of grey), saturation and value, shape ``(B, H, W)`` each."""
    red, green, blue = images.unbind(dim=1)
    values = images.amax(dim=1)
    chroma = values - images.amin(dim=1)
    divisor = th.where(chroma == 0, 1, chroma)
    sixths = th.where(
        values == red,
        (green - blue) / divisor,
        th.where(values == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    return (sixths / 6).remainder(1), chroma / th.where(values == 0, 1, values), values


def hsv_to_rgb(hues: th.Tensor, saturations: th.Tensor, values: th.Tensor) -> th.Tensor:
    """Images, shape ``(B, 3, H, W)``, from hues in turns (any real number), saturations and values."""
    sixths = th.stack([(offset + 6 * hues).remainder(6) for offset in (5, 3, 1)], dim=1)
    missing = th.minimum(sixths, 4 - sixths).clamp(0, 1)  # share of the chroma that each channel lacks
    return values[:, None] * (1 - saturations[:, None] * missing)


def _blend(images: th.Tensor, others: th.Tensor, factor: float) -> th.Tensor:
    return (factor * images + (1 - factor) * others).clamp(0, 1)
