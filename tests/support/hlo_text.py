"""HLO text of a whole module around the instructions of a test."""

import textwrap

REDUCERS = """
%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %r = f32[] add(%a, %b)
}
"""


def module(entry, before="", header="num_partitions=8"):
    body = textwrap.indent(textwrap.dedent(entry).strip(), "  ")
    entry = f"ENTRY %main (p: f32[2,16]) -> f32[2] {{\n{body}\n}}\n"
    return f"HloModule m, is_scheduled=true, {header}\n{REDUCERS}{before}\n{entry}"
