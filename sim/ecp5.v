// SPDX-FileCopyrightText: The spigate contributors
//
// SPDX-License-Identifier: Apache-2.0

// The primitives of Lattice's ECP5 at a board's pins, and its PLL, for simulation. What they do is written in
// FPGA-TN-02035 (high-speed I/O: GDDRX1, DELAYG), in FPGA-TN-02200 (sysCLOCK PLL) and in the FPGA Libraries
// Reference Guide (BB, FD1S3BX). Setup, hold and the fixed delays of real pins are not here.

// Receives two bits a clock: Q0 has what D was at a rising edge, Q1 what it was at the falling edge behind
// that; both change together, at a rising edge.
module IDDRX1F (input D, SCLK, RST, output reg Q0, Q1);
  reg rising = 0, falling = 0;
  initial {Q0, Q1} = 0;
  always @(negedge SCLK) falling <= D;
  always @(posedge SCLK) begin
    rising <= D;
    Q0 <= rising;
    Q1 <= falling;
    if (RST === 1) {rising, Q0, Q1} <= 0;
  end
endmodule

// Sends two bits a clock: of those that are there at a rising edge D0 from then on, and D1 from the falling
// edge behind it.
module ODDRX1F (input D0, D1, SCLK, RST, output Q);
  reg first = 0, second = 0;
  always @(posedge SCLK) {first, second} <= RST === 1 ? 2'b00 : {D0, D1};
  assign Q = SCLK ? first : second;
endmodule

// A pin that is driven while T is 0.
module BB (input I, T, output O, inout B);
  assign B = T ? 1'bz : I;
  assign O = B;
endmodule

// A delay of DEL_VALUE steps. DEL_MODE says from where the fixed part comes, which is not here.
module DELAYG (input A, output Z);
  parameter DEL_MODE = "USER_DEFINED";
  parameter DEL_VALUE = 0;
  reg delayed = 0;
  always @(A) delayed <= #(0.025 * DEL_VALUE) A;
  assign Z = DEL_VALUE == 0 ? A : delayed;
endmodule

// A flip-flop with an asynchronous preset.
module FD1S3BX (input D, PD, CK, output reg Q);
  initial Q = 1;
  always @(posedge CK or posedge PD) Q <= PD ? 1'b1 : D;
endmodule

// A PLL whose feedback comes from CLKOP. It measures CLKI, and locks two cycles later; phases are not here.
module EHXPLLL (
  input CLKI, CLKFB, PHASESEL1, PHASESEL0, PHASEDIR, PHASESTEP, PHASELOADREG, STDBY, PLLWAKESYNC, RST,
  input ENCLKOP, ENCLKOS, ENCLKOS2, ENCLKOS3,
  output reg CLKOP, CLKOS, output CLKOS2, CLKOS3, output reg LOCK, output INTLOCK, REFCLK, CLKINTFB
);
  parameter CLKI_DIV = 1, CLKFB_DIV = 1, CLKOP_DIV = 1, CLKOS_DIV = 1;
  parameter CLKOP_CPHASE = 0, CLKOP_FPHASE = 0, CLKOS_CPHASE = 0, CLKOS_FPHASE = 0;
  parameter CLKOP_ENABLE = "ENABLED", CLKOS_ENABLE = "DISABLED", FEEDBK_PATH = "CLKOP";
  parameter PLLRST_ENA = "DISABLED", INTFB_WAKE = "DISABLED", STDBY_ENABLE = "DISABLED";
  parameter DPHASE_SOURCE = "DISABLED";
  realtime start, period, vco;
  initial begin
    {CLKOP, CLKOS, LOCK} = 0;
    @(posedge CLKI) start = $realtime;
    @(posedge CLKI) period = $realtime - start;
    vco = period * CLKI_DIV / CLKFB_DIV / CLKOP_DIV;
    LOCK = 1;
  end
  always @(posedge LOCK) forever #(vco * CLKOP_DIV / 2) CLKOP = ~CLKOP;
  always @(posedge LOCK) forever #(vco * CLKOS_DIV / 2) CLKOS = ~CLKOS;
endmodule
