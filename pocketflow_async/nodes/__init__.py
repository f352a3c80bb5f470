"""Nodes: `prep` reads from `shared`, `exec` works, `post` writes back and names the next action."""

from pocketflow_async.nodes.asynchronous import AsyncNode, visit_async
from pocketflow_async.nodes.base import BaseNode, fan_out, kind_of, name_of, visit
from pocketflow_async.nodes.sync import Node

__all__ = ["AsyncNode", "BaseNode", "Node", "fan_out", "kind_of", "name_of", "visit", "visit_async"]
