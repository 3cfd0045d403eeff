// SPDX-FileCopyrightText: The spigate contributors
//
// SPDX-License-Identifier: Apache-2.0

// The simulated board: the exported gateway with a bus model at each of its ports. Python starts `clk`.
module board #(
    parameter BEAT_BYTES = 8,
    parameter CLOCKS_A_BIT = 8
);
    reg clk, rst;
    // Clocks since the simulation began.
    reg [63:0] cycle;
    initial begin clk = 0; rst = 1; cycle = 0; end
    always @(posedge clk) cycle <= cycle + 1;

    // The guard at the network port never stops anything, unless a test has made tables that are wrong and says so.
    reg guard_may_stop;
    reg [31:0] guard_stops;
    initial begin guard_may_stop = 0; guard_stops = 0; end
    always @(posedge clk) if (!rst && gateway.gateway.forwarding.guard.stopped) begin
        guard_stops <= guard_stops + 1;
        if (!guard_may_stop) begin
            $display("Clock %0d: a packet without a reason to leave was stopped at the network port", cycle);
            $finish;
        end
    end

    wire [8*BEAT_BYTES-1:0] network_in_data, server_in_data, inject_data, network_out_data, server_out_data, punt_data;
    wire [BEAT_BYTES-1:0] network_in_keep, server_in_keep, inject_keep, network_out_keep, server_out_keep, punt_keep;
    wire network_in_valid, server_in_valid, inject_valid, network_out_valid, server_out_valid, punt_valid;
    wire network_in_ready, server_in_ready, inject_ready, network_out_ready, server_out_ready, punt_ready;
    wire network_in_last, server_in_last, inject_last, network_out_last, server_out_last, punt_last;
    wire network_in_user, server_in_user, inject_user;

    wire [15:0] awaddr, araddr;
    wire [31:0] wdata, rdata;
    wire [3:0] wstrb;
    wire [1:0] bresp, rresp;
    wire awvalid, awready, wvalid, wready, bvalid, bready, arvalid, arready, rvalid, rready;

    packet_source #(.BEAT_BYTES(BEAT_BYTES), .SEED(16'h1ace)) network_in (
        .clk(clk), .rst(rst), .cycle(cycle), .tdata(network_in_data), .tkeep(network_in_keep), .tvalid(network_in_valid),
        .tlast(network_in_last), .tuser(network_in_user), .tready(network_in_ready));
    packet_source #(.BEAT_BYTES(BEAT_BYTES), .SEED(16'h2bdf)) server_in (
        .clk(clk), .rst(rst), .cycle(cycle), .tdata(server_in_data), .tkeep(server_in_keep), .tvalid(server_in_valid),
        .tlast(server_in_last), .tuser(server_in_user), .tready(server_in_ready));
    packet_sink #(.BEAT_BYTES(BEAT_BYTES), .SEED(16'h4df1)) network_out (
        .clk(clk), .rst(rst), .cycle(cycle), .tdata(network_out_data), .tkeep(network_out_keep), .tvalid(network_out_valid),
        .tlast(network_out_last), .tready(network_out_ready));
    packet_sink #(.BEAT_BYTES(BEAT_BYTES), .SEED(16'h5e02)) server_out (
        .clk(clk), .rst(rst), .cycle(cycle), .tdata(server_out_data), .tkeep(server_out_keep), .tvalid(server_out_valid),
        .tlast(server_out_last), .tready(server_out_ready));

    // The control element's side: bus models, or with SERIAL_LINK the host link and a host's end of its serial line.
`ifdef SERIAL_LINK
    wire down, up;
    assign inject_user = 0;
    uart_host #(.CLOCKS(CLOCKS_A_BIT)) line (.clk(clk), .rst(rst), .tx(down), .rx(up));
    uart_link link (
        .clk(clk), .rst(rst), .rx(down), .tx(up),
        .m_axis_inject_tdata(inject_data), .m_axis_inject_tkeep(inject_keep), .m_axis_inject_tvalid(inject_valid),
        .m_axis_inject_tlast(inject_last), .m_axis_inject_tready(inject_ready),
        .s_axis_punt_tdata(punt_data), .s_axis_punt_tkeep(punt_keep), .s_axis_punt_tvalid(punt_valid),
        .s_axis_punt_tlast(punt_last), .s_axis_punt_tready(punt_ready),
        .m_axil_awaddr(awaddr), .m_axil_awvalid(awvalid), .m_axil_awready(awready),
        .m_axil_wdata(wdata), .m_axil_wstrb(wstrb), .m_axil_wvalid(wvalid), .m_axil_wready(wready),
        .m_axil_bresp(bresp), .m_axil_bvalid(bvalid), .m_axil_bready(bready),
        .m_axil_araddr(araddr), .m_axil_arvalid(arvalid), .m_axil_arready(arready),
        .m_axil_rdata(rdata), .m_axil_rresp(rresp), .m_axil_rvalid(rvalid), .m_axil_rready(rready));
`else
    packet_source #(.BEAT_BYTES(BEAT_BYTES), .SEED(16'h3ce0)) inject (
        .clk(clk), .rst(rst), .cycle(cycle), .tdata(inject_data), .tkeep(inject_keep), .tvalid(inject_valid),
        .tlast(inject_last), .tuser(inject_user), .tready(inject_ready));
    packet_sink #(.BEAT_BYTES(BEAT_BYTES), .SEED(16'h6f13)) punt (
        .clk(clk), .rst(rst), .cycle(cycle), .tdata(punt_data), .tkeep(punt_keep), .tvalid(punt_valid),
        .tlast(punt_last), .tready(punt_ready));
    axil_master axil (
        .clk(clk), .rst(rst),
        .awaddr(awaddr), .awvalid(awvalid), .awready(awready), .wdata(wdata), .wstrb(wstrb), .wvalid(wvalid), .wready(wready),
        .bresp(bresp), .bvalid(bvalid), .bready(bready),
        .araddr(araddr), .arvalid(arvalid), .arready(arready), .rdata(rdata), .rresp(rresp), .rvalid(rvalid), .rready(rready));
`endif

    spigate gateway (
        .clk(clk), .rst(rst),
        .s_axis_network_tdata(network_in_data), .s_axis_network_tkeep(network_in_keep), .s_axis_network_tvalid(network_in_valid),
        .s_axis_network_tlast(network_in_last), .s_axis_network_tuser(network_in_user), .s_axis_network_tready(network_in_ready),
        .s_axis_server_tdata(server_in_data), .s_axis_server_tkeep(server_in_keep), .s_axis_server_tvalid(server_in_valid),
        .s_axis_server_tlast(server_in_last), .s_axis_server_tuser(server_in_user), .s_axis_server_tready(server_in_ready),
        .s_axis_inject_tdata(inject_data), .s_axis_inject_tkeep(inject_keep), .s_axis_inject_tvalid(inject_valid),
        .s_axis_inject_tlast(inject_last), .s_axis_inject_tuser(inject_user), .s_axis_inject_tready(inject_ready),
        .m_axis_network_tdata(network_out_data), .m_axis_network_tkeep(network_out_keep), .m_axis_network_tvalid(network_out_valid),
        .m_axis_network_tlast(network_out_last), .m_axis_network_tready(network_out_ready),
        .m_axis_server_tdata(server_out_data), .m_axis_server_tkeep(server_out_keep), .m_axis_server_tvalid(server_out_valid),
        .m_axis_server_tlast(server_out_last), .m_axis_server_tready(server_out_ready),
        .m_axis_punt_tdata(punt_data), .m_axis_punt_tkeep(punt_keep), .m_axis_punt_tvalid(punt_valid),
        .m_axis_punt_tlast(punt_last), .m_axis_punt_tready(punt_ready),
        .s_axil_awaddr(awaddr), .s_axil_awvalid(awvalid), .s_axil_awready(awready),
        .s_axil_wdata(wdata), .s_axil_wstrb(wstrb), .s_axil_wvalid(wvalid), .s_axil_wready(wready),
        .s_axil_bresp(bresp), .s_axil_bvalid(bvalid), .s_axil_bready(bready),
        .s_axil_araddr(araddr), .s_axil_arvalid(arvalid), .s_axil_arready(arready),
        .s_axil_rdata(rdata), .s_axil_rresp(rresp), .s_axil_rvalid(rvalid), .s_axil_rready(rready));
endmodule
