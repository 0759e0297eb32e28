"""The demo: a page that shows what AToken does, section by section, without a network."""
