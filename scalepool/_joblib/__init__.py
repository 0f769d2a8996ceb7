"""The parts of the joblib backend; users import ``scalepool.joblib_backend``."""
