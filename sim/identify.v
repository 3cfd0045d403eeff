// SPDX-FileCopyrightText: The spigate contributors
//
// SPDX-License-Identifier: Apache-2.0

// Reads the first register of a core over AXI4-Lite: the simulation of spigate.core, for any simulator.
`timescale 1ns / 1ps
module identify;
  localparam [31:0] ID = 32'h53504947;
  localparam [31:0] CLOCKS = 1024;  // in which a core answers

  reg clk = 0;
  reg rst = 1;
  reg arvalid = 0;
  wire arready, rvalid;
  wire [31:0] rdata;
  wire [ 1:0] rresp;

  always #5 clk = !clk;

  spigate core (
      .clk(clk),
      .rst(rst),
      .s_axis_network_tvalid(1'b0),
      .s_axis_server_tvalid(1'b0),
      .s_axis_inject_tvalid(1'b0),
      .m_axis_network_tready(1'b1),
      .m_axis_server_tready(1'b1),
      .m_axis_punt_tready(1'b1),
      .s_axil_awvalid(1'b0),
      .s_axil_wvalid(1'b0),
      .s_axil_bready(1'b0),
      .s_axil_araddr(16'h0),
      .s_axil_arprot(3'h0),
      .s_axil_arvalid(arvalid),
      .s_axil_arready(arready),
      .s_axil_rdata(rdata),
      .s_axil_rresp(rresp),
      .s_axil_rvalid(rvalid),
      .s_axil_rready(1'b1)
  );

  initial begin
    repeat (2) @(posedge clk);
    rst <= 0;
    arvalid <= 1;
    repeat (CLOCKS) begin
      @(posedge clk);
      if (arvalid && arready) arvalid <= 0;
      if (rvalid) begin
        if (rdata == ID && rresp == 0) begin
          $display("PASS: the core says that it is a spigate");
          $finish;
        end
        $fatal(1, "FAIL: read %h, response %b", rdata, rresp);
      end
    end
    $fatal(1, "FAIL: no answer in %0d clocks", CLOCKS);
  end
endmodule
