// SPDX-FileCopyrightText: The spigate contributors
//
// SPDX-License-Identifier: Apache-2.0

// The board of link_board.py and a host's end of its serial line.
module board #(
    parameter CLOCKS = 8
);
    reg clk, rst;
    wire down, up;
    initial begin clk = 0; rst = 1; end
    uart_host #(.CLOCKS(CLOCKS)) line (.clk(clk), .rst(rst), .tx(down), .rx(up));
    link_board gateway (.clk(clk), .rst(rst), .rx(down), .tx(up));
endmodule
