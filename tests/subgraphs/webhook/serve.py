"""Webhook served by a process of its own, for tests that kill it: settings from the environment, port on the way."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import uvicorn

from subgraphs.platform.server import application, ground_of
from subgraphs.platform.settings import Settings
from subgraphs.webhook import service


def main() -> None:
    settings = Settings.load(os.environ)
    ground = ground_of(settings)
    app = application(ground, [service.build(ground)])
    uvicorn.run(app, port=settings.serve_port, log_level="error", access_log=False)


if __name__ == "__main__":
    main()
