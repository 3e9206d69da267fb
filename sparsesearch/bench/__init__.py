"""The dense and the sparse model of a schedule, timed side by side.

`python -m sparsesearch.bench` needs torch and timm alone. From Python: `compare` of `sparsesearch.bench.compare`.
"""
