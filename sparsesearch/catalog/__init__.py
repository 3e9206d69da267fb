"""The supported backbones as recorded data: names and geometries without torch or timm."""
