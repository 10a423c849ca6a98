"""Scores of how strange an example looks to a model, one a file, usable alone on arrays: the higher, the stranger.

So confidence stands here with its sign turned round. What is detected, be it an example of something else or a wrong
answer, is always the positive class. Scores of logits are functions and see one example at a time; scores of features
are classes that are fitted to examples of the training split first.
"""
