"""Expressions: CEL in `{{ }}`, checked by Google's parser, evaluated here within a budget. See README.md."""

from subgraphs.engine.expression.faults import Budget, ExpressionError, ExpressionLimit
from subgraphs.engine.expression.surveying import check, survey
from subgraphs.engine.expression.syntax import NAMES
from subgraphs.engine.expression.template import Template, compiled
from subgraphs.engine.expression.values import plain

__all__ = ["NAMES", "Budget", "ExpressionError", "ExpressionLimit", "Template", "check", "compiled", "plain", "survey"]
