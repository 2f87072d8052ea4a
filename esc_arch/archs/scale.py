"""What networks call their scale, in option files and as attributes."""

SCALE_ARGUMENTS = ("upscaling_factor", "upscale", "up_scale", "upsampling", "scale")  # of ESC and its peers
