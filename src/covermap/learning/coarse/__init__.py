"""Learning from coarse, noisy labels: each method a small part, to be combined.

The parts are functions of tensors (and a few modules whose state belongs to a run). They share:

- `logits` (B, K, H, W) float, any precision: computed with in float32;
- `label` (B, H, W) int64: class index in the map's (fine) legend 0…K−1, 255 = ignore;
- `coarse` (B, H, W) int64: class index in the coarse product's legend 0…Z−1, 255 = none;
- `cell` (B, H, W) int64: number of the coarse cell within its patch, at least 0, −1 = none; in a
  batch `Cells` numbers them anew.

Every loss is a () float32 with a gradient graph, which is 0 (with gradients of 0) where nothing
counts.
"""
