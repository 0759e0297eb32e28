"""Files and arrays in and out of the tokenizer: images, videos and meshes ⇄ packed patches."""
