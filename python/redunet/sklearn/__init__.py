"""scikit-learn estimators: thin wrappers around `build`, the lifts, the classifiers, `merge_path` and `vertex_steps`.

X is (m, d), (m, C, T) or (m, C, H, W), real. Pipelines carry tables, so signals may also come flattened, (m, C * T) or
(m, C * H * W), with ``signal_shape=(T,)`` or ``(H, W)``; the output then is a table too. Samples of weight zero are
left out. Computation is in single precision for float32 input and in double precision otherwise.
"""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError("redunet.sklearn needs scikit-learn: pip install 'redunet[sklearn]'") from error

from redunet.sklearn.classifier import ReduNetClassifier
from redunet.sklearn.clustering import CodingLengthClustering, CodingRateKSubspaces
from redunet.sklearn.lift import PooledLift, RandomLift
from redunet.sklearn.micl import MICLClassifier
from redunet.sklearn.subspace import NearestSubspaceClassifier
from redunet.sklearn.transformer import ReduNetTransformer

__all__ = [
    "CodingLengthClustering",
    "CodingRateKSubspaces",
    "MICLClassifier",
    "NearestSubspaceClassifier",
    "PooledLift",
    "RandomLift",
    "ReduNetClassifier",
    "ReduNetTransformer",
]
