"""The training loop and its parts. It knows a protocol (``protocol.TrainSpec``), and no model, modality or loss."""
