"""Access to any network: its data, its calls, the values inside it, its layers.

In the order of use:

- :mod:`~rectilinear.networks.batches`: ``read_batches(data, model, labels, tokenizer=)`` makes of
  every form of data a re-iterable of ``Batch(args, kwargs, mask, labels)``, on the model's device.
- :mod:`~rectilinear.networks.forward_pass`: ``forward(model, batch, places, substitutes, output=)``
  runs one batch and returns the output tensor and the values at places inside.
- :mod:`~rectilinear.networks.places`: ``find(model, "encoder.layer.3@input")``, a place; names are
  those of the inner model, also through ``DataParallel``, ``torch.compile`` and wrappers.
- :mod:`~rectilinear.networks.token_vectors`: a value ``(b, t, d)`` or ``(b, c, h, w)`` as vectors
  ``(n, d)`` with their samples, and a function of vectors on the whole value.
- :mod:`~rectilinear.networks.sample_split`: the held-out samples; sums by sample.
- :mod:`~rectilinear.networks.network`: ``evaluating(model)``, inside which all of this runs, and a
  network as a function of rows.
- :mod:`~rectilinear.networks.data`: rows and labels of such a function.
- :mod:`~rectilinear.networks.trace`, :mod:`~rectilinear.networks.weight_matrices`: its operations.

The model is not changed: hooks, modes and random states are restored, also after an error.
"""
