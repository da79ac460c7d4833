"""The progress bar of `build`: tqdm where it is installed, else one line on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redunet.rates import RateReduction


class RateProgress:
    """A context manager whose `update` serves as ``on_layer``; does nothing when ``show`` is false."""

    SECONDS_BETWEEN = 0.1

    def __init__(self, n_layers: int, show: bool) -> None:
        self._n_layers = n_layers
        self._show = show
        self._bar: Any = None
        self._shown = 0.0

    def __enter__(self) -> RateProgress:
        if self._show:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                pass
            else:
                self._bar = tqdm(total=self._n_layers, unit="layer", mininterval=self.SECONDS_BETWEEN)
        return self

    def update(self, index: int, rates: RateReduction) -> None:
        """Show the rates at the input of layer ``index``; at most ten times a second."""
        now = time.monotonic()
        if not self._show or (index < self._n_layers and now - self._shown < self.SECONDS_BETWEEN):
            return
        self._shown = now
        text = f"R={rates.rate:.4f}, R_c={rates.class_rate:.4f}, ΔR={rates.delta:.4f}"
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(index - self._bar.n)
        else:
            sys.stderr.write(f"\rlayer {index}/{self._n_layers}  {text}")
            sys.stderr.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._show:
            sys.stderr.write("\n")
