"""BookInfo: productpage, details, ratings and reviews v1-v3, with the names, labels and ports of Istio's.

Started as `python -m examples.bookinfo SERVICE VERSION`; manifests and routing rules stand in the YAML beside it.
"""
