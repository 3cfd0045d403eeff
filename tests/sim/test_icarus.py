# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What is rewritten for Icarus says the same, undefined bits included, as Icarus itself finds."""

import subprocess

from spigate.sim import icarus
from spigate.sim.build import need

MODULE = """\
module NAME(a, b, c, d, o, p, q, r, s);
  input [127:0] a;
  wire [127:0] a;
  input [127:0] b;
  wire [127:0] b;
  input [63:0] c;
  wire [63:0] c;
  input [39:0] d;
  wire [39:0] d;
  output [127:0] o;
  wire [127:0] o;
  output [130:0] p;
  wire [130:0] p;
  output [63:0] q;
  wire [63:0] q;
  output [31:0] r;
  wire [31:0] r;
  output [39:0] s;
  wire [39:0] s;
  wire [127:0] \\$1 ;
  wire [127:0] \\$12 ;
  wire [63:0] \\$3 ;
  wire [39:0] constant;
  wire [63:0] \\d.e[0] ;
  wire [40:0] sum;
  assign o = \\$12  ^ a;
  assign \\$12  = \\$1 [127:0] & { c, 24'hf0f0f0, d };
  assign \\$1  = a ^ b;
  assign p = { 2'h0, a, 1'h0 } ^ { c, 1'h1, d };
  assign \\$3  = c | { 24'h000000, d };
  assign q = \\$3  ^ d;
  assign r = ~ a[33:2];
  assign \\d.e[0]  = c ^ \\$3 ;
  assign sum = d + \\d.e[0] [39:0];
  assign constant = 40'h1234567890 ^ 40'hffffffffff;
  assign s = constant ^ sum[39:0];
endmodule
"""
BENCH = """\
module bench;
  integer seed, at, wrong;
  reg [127:0] a; reg [127:0] b; reg [63:0] c; reg [39:0] d;
  wire [127:0] o0, o1; wire [130:0] p0, p1; wire [63:0] q0, q1; wire [31:0] r0, r1; wire [39:0] s0, s1;
  plain plain(a, b, c, d, o0, p0, q0, r0, s0);
  rewritten rewritten(a, b, c, d, o1, p1, q1, r1, s1);
  function [127:0] any(input integer undefined); begin
    any = { $random(seed), $random(seed), $random(seed), $random(seed) };
    if (undefined) any = any ^ ((128'd1 << ($random(seed) & 127)) & 128'bx);
  end endfunction
  initial begin
    seed = 1; wrong = 0;
    for (at = 0; at < 2000; at = at + 1) begin
      a = any(at % 3 == 0); b = any(at % 5 == 0); c = any(at % 7 == 0); d = any(at % 11 == 0);
      #1 if ({o0, p0, q0, r0, s0} !== {o1, p1, q1, r1, s1}) wrong = wrong + 1;
    end
    $display("%0d wrong, %b", wrong, ^o0 === 1'bx);
  end
endmodule
"""


def test_says_the_same(tmp_path):
    rewritten = icarus.faster(MODULE)
    assert " ^ " not in rewritten and rewritten.count("always") == 4, rewritten
    texts = {
        "plain.v": MODULE.replace("NAME", "plain"),
        "rewritten.v": rewritten.replace("NAME", "rewritten"),
        "bench.v": BENCH,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    subprocess.run(
        [need("iverilog", "iverilog", "This test"), "-g2012", "-o", "bench", "-s", "bench", *texts],
        cwd=tmp_path,
        check=True,
    )
    done = subprocess.run(["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("0 wrong"), done.stdout


def test_leaves_alone_what_it_does_not_understand():
    text = MODULE.replace("a ^ b", "a ^ b ^ c").replace("sum[39:0];", "(sum[39:0]);")
    assert "assign \\$1  = a ^ b ^ c;" in icarus.faster(
        text
    ) and "assign s = constant ^ (sum[39:0]);" in icarus.faster(text)
    assert icarus.faster("module m; endmodule\n") == "module m; endmodule\n"
