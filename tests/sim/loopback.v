// SPDX-FileCopyrightText: The spigate contributors
//
// SPDX-License-Identifier: Apache-2.0

// Stands in for the gateway where the bus models are tested: what comes in at one port goes out at another, two clocks later, and the registers
// are plain memory, below 0xf000.
module loopback_pipe #(parameter BEAT_BYTES = 8) (
    input wire clk, input wire rst,
    input wire [8*BEAT_BYTES-1:0] s_tdata, input wire [BEAT_BYTES-1:0] s_tkeep, input wire s_tvalid, input wire s_tlast, output wire s_tready,
    output reg [8*BEAT_BYTES-1:0] m_tdata, output reg [BEAT_BYTES-1:0] m_tkeep, output reg m_tvalid, output reg m_tlast, input wire m_tready
);
    integer at;
    assign s_tready = !m_tvalid || m_tready;
    always @(posedge clk) begin
        if (s_tready) begin
            m_tvalid <= s_tvalid; m_tkeep <= s_tkeep; m_tlast <= s_tlast;
            for (at = 0; at < BEAT_BYTES; at = at + 1)
                m_tdata[8*at +: 8] <= s_tkeep[at] ? s_tdata[8*at +: 8] : 8'h00;
        end
        if (rst) m_tvalid <= 0;
    end
endmodule

// Where the board looks for the guard at the network port.
module loopback_guard; wire stopped = 1'b0; endmodule
module loopback_forwarding; loopback_guard guard (); endmodule
module loopback_gateway; loopback_forwarding forwarding (); endmodule

module spigate #(parameter BEAT_BYTES = 8) (
    input wire clk, input wire rst,
    input wire [8*BEAT_BYTES-1:0] s_axis_network_tdata, input wire [BEAT_BYTES-1:0] s_axis_network_tkeep,
    input wire s_axis_network_tvalid, input wire s_axis_network_tlast, input wire s_axis_network_tuser, output wire s_axis_network_tready,
    input wire [8*BEAT_BYTES-1:0] s_axis_server_tdata, input wire [BEAT_BYTES-1:0] s_axis_server_tkeep,
    input wire s_axis_server_tvalid, input wire s_axis_server_tlast, input wire s_axis_server_tuser, output wire s_axis_server_tready,
    input wire [8*BEAT_BYTES-1:0] s_axis_inject_tdata, input wire [BEAT_BYTES-1:0] s_axis_inject_tkeep,
    input wire s_axis_inject_tvalid, input wire s_axis_inject_tlast, input wire s_axis_inject_tuser, output wire s_axis_inject_tready,
    output wire [8*BEAT_BYTES-1:0] m_axis_network_tdata, output wire [BEAT_BYTES-1:0] m_axis_network_tkeep,
    output wire m_axis_network_tvalid, output wire m_axis_network_tlast, input wire m_axis_network_tready,
    output wire [8*BEAT_BYTES-1:0] m_axis_server_tdata, output wire [BEAT_BYTES-1:0] m_axis_server_tkeep,
    output wire m_axis_server_tvalid, output wire m_axis_server_tlast, input wire m_axis_server_tready,
    output wire [8*BEAT_BYTES-1:0] m_axis_punt_tdata, output wire [BEAT_BYTES-1:0] m_axis_punt_tkeep,
    output wire m_axis_punt_tvalid, output wire m_axis_punt_tlast, input wire m_axis_punt_tready,
    input wire [15:0] s_axil_awaddr, input wire s_axil_awvalid, output wire s_axil_awready,
    input wire [31:0] s_axil_wdata, input wire [3:0] s_axil_wstrb, input wire s_axil_wvalid, output wire s_axil_wready,
    output reg [1:0] s_axil_bresp, output reg s_axil_bvalid, input wire s_axil_bready,
    input wire [15:0] s_axil_araddr, input wire s_axil_arvalid, output wire s_axil_arready,
    output reg [31:0] s_axil_rdata, output reg [1:0] s_axil_rresp, output reg s_axil_rvalid, input wire s_axil_rready
);
    loopback_gateway gateway ();
    loopback_pipe #(BEAT_BYTES) network (clk, rst,
        s_axis_network_tdata, s_axis_network_tkeep, s_axis_network_tvalid, s_axis_network_tlast, s_axis_network_tready,
        m_axis_server_tdata, m_axis_server_tkeep, m_axis_server_tvalid, m_axis_server_tlast, m_axis_server_tready);
    loopback_pipe #(BEAT_BYTES) server (clk, rst,
        s_axis_server_tdata, s_axis_server_tkeep, s_axis_server_tvalid, s_axis_server_tlast, s_axis_server_tready,
        m_axis_network_tdata, m_axis_network_tkeep, m_axis_network_tvalid, m_axis_network_tlast, m_axis_network_tready);
    loopback_pipe #(BEAT_BYTES) control (clk, rst,
        s_axis_inject_tdata, s_axis_inject_tkeep, s_axis_inject_tvalid, s_axis_inject_tlast, s_axis_inject_tready,
        m_axis_punt_tdata, m_axis_punt_tkeep, m_axis_punt_tvalid, m_axis_punt_tlast, m_axis_punt_tready);

    // Frames marked as damaged at the network port.
    reg [31:0] damaged = 0;
    always @(posedge clk)
        if (s_axis_network_tvalid && s_axis_network_tready && s_axis_network_tlast && s_axis_network_tuser) damaged <= damaged + 1;

    reg [31:0] words [0:16383];
    // Address and data are taken in different clocks, so that the master's two channels are seen to be apart.
    reg addressed = 0;
    assign s_axil_awready = s_axil_awvalid && !addressed;
    assign s_axil_wready = addressed && !s_axil_bvalid;
    assign s_axil_arready = !s_axil_rvalid;
    reg [15:0] target;
    integer at;
    initial begin
        s_axil_bvalid = 0; s_axil_rvalid = 0;
        for (at = 0; at < 16384; at = at + 1) words[at] = 0;
    end
    always @(posedge clk) begin
        if (s_axil_awvalid && s_axil_awready) begin addressed <= 1; target <= s_axil_awaddr; end
        if (s_axil_bvalid && s_axil_bready) s_axil_bvalid <= 0;
        if (s_axil_wvalid && s_axil_wready) begin
            words[target[15:2]] <= s_axil_wdata;
            s_axil_bvalid <= 1; s_axil_bresp <= target >= 16'hf000 ? 2 : 0; addressed <= 0;
        end
        if (s_axil_rvalid && s_axil_rready) s_axil_rvalid <= 0;
        if (s_axil_arvalid && s_axil_arready) begin
            s_axil_rdata <= s_axil_araddr == 16'h8000 ? damaged : words[s_axil_araddr[15:2]];
            s_axil_rvalid <= 1; s_axil_rresp <= s_axil_araddr >= 16'hf000 ? 2 : 0;
        end
    end
endmodule
