"""Sets of labels that hold the true one with a probability that is chosen, on arrays of logits.

Why this is written here and no library is asked: TorchCP has all of the plain part, but is not imported without
transformers, torch_geometric and torchsort, which has to be compiled. MAPIE installs cleanly, but asks for an estimator
of scikit-learn in place of logits, covers classes one by one only with a convex solver beside it, and draws its random
numbers in the order in which examples come, so that an example's set would hang on the others. What is needed of either
is a sort and a k-th smallest number. Both are compared with, outside of the suite (tests/benchmarks/conformal.py).
"""
