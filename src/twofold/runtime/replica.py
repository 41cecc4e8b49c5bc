"""What a serving process holds: plan, readers, predictors, ingest. It never runs the project file and never imports Polars."""

from __future__ import annotations

