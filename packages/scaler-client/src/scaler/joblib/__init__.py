"""joblib, and so scikit-learn, on a Scaler cluster.

    import joblib
    import scaler.joblib

    with joblib.parallel_config(backend="scaler", address="tcp://127.0.0.1:2345"):
        search.fit(X, y)

Importing it registers the backend "scaler". Needs joblib (`scaler-client[joblib]`) here and on the workers.
"""

from scaler.joblib.backend import ScalerBackend

__all__ = ["ScalerBackend"]
