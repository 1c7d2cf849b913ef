"""What leaves a build: images, one squashed layer, files; and where two images differ."""
