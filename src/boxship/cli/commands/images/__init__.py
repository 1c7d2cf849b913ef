"""Commands for images and builds."""
