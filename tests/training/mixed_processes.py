"""Pretrains on crops of 3D and 2D in turn, for a test of several processes.

python -m torch.distributed.run --nproc-per-node 2 mixed_processes.py STORE OUT CONFIG
"""

import json
import sys
from pathlib import Path

from medssl.training.pretrain import PretrainConfig, pretrain

if __name__ == "__main__":
    store, out, config = sys.argv[1:]
    pretrain(Path(store), Path(out), PretrainConfig(**json.loads(config)))
