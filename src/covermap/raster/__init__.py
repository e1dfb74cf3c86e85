"""Rasters and vectors on disk: reading with masks, writing atomically. Knows nothing of torch.

`scene` opens imagery, `labels` and `vector` read labels, `writing` writes maps.
"""
