"""What `import redunet.torch` says where there is no PyTorch; this needs none."""

from __future__ import annotations

import subprocess
import sys


def test_without_pytorch_the_message_says_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "try:\n    import redunet.torch\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "redunet.torch needs PyTorch: pip install 'redunet[torch]'"
