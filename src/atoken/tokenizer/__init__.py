"""The AToken network alone: packed numbers in and out. It knows no file, medium or codec."""
