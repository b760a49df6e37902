"""`infermesh demo`: the product's whole story on real data, in a mesh of real processes that is gone afterwards.

Only `cli/demo.py` may call it. torch and scikit-learn are imported where they are used, so that this imports quickly.
"""
