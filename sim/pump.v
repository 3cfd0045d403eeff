// SPDX-FileCopyrightText: The spigate contributors
//
// SPDX-License-Identifier: Apache-2.0

// Bus models: Python hands over and takes whole packets and bursts, these play them beat by beat.
//
// Python writes what the comments call settings, and flips `request`; the model flips `accepted`, or counts `frames` up, when it is Python's turn.
// So Python wakes once a packet, not once a clock. Everything here is plain Verilog-2005 and runs on Verilator and Icarus alike.

// Plays frames on an AXI4-Stream port. The next frame may be handed over while one is played: then no clock is lost between them.
module packet_source #(
    parameter BEAT_BYTES = 8,
    parameter MAX_BYTES = 4096,
    parameter SEED = 16'h1ace
) (
    input wire clk,
    input wire rst,
    input wire [63:0] cycle,
    output reg [8*BEAT_BYTES-1:0] tdata,
    output reg [BEAT_BYTES-1:0] tkeep,
    output reg tvalid,
    output reg tlast,
    output reg tuser,
    input wire tready
);
    localparam BEATS = MAX_BYTES / BEAT_BYTES;

    // Settings: the frame, byte 0 in the low bits; its length in bytes, 1 to MAX_BYTES; whether the port marks it as damaged (tuser on its last
    // beat); and of 256 clocks, how many pause before a beat: 0 none, 256 all.
    reg [8*MAX_BYTES-1:0] frame;
    reg [15:0] length;
    reg damaged;
    reg [8:0] pause;
    reg request;
    // Flips when the frame has been taken over and the next one may be handed over.
    reg accepted;
    // Clock in which the first beat of the last frame begun was transferred; frames wholly transferred.
    reg [63:0] started;
    reg [31:0] frames;

    reg [8*BEAT_BYTES-1:0] beats [0:BEATS-1];
    reg playing, first, marked;
    reg [15:0] index, left, noise;
    integer at;

    initial begin
        frame = 0; length = 0; damaged = 0; pause = 0; request = 0; accepted = 0; started = 0; frames = 0;
        tvalid = 0; tlast = 0; tuser = 0; tkeep = 0; tdata = 0;
        playing = 0; first = 0; marked = 0; index = 0; left = 0; noise = SEED;
    end

    always @(posedge clk) begin
        noise <= {noise[14:0], noise[15] ^ noise[13] ^ noise[12] ^ noise[10]};
        if (tvalid && tready) begin
            tvalid <= 0;
            if (first) started <= cycle;
            if (tlast) frames <= frames + 1;
            first <= tlast;
        end
        if (!playing && request != accepted) begin
            for (at = 0; at * BEAT_BYTES < length; at = at + 1)
                beats[at] = frame[8*BEAT_BYTES*at +: 8*BEAT_BYTES];
            left = length;
            marked = damaged;
            index = 0;
            playing = 1;
            accepted <= request;
        end
        if (playing && (!tvalid || tready) && noise[7:0] >= pause && !rst) begin
            tvalid <= 1;
            // What lies behind the end is filled with a5, so that a gateway that takes it is found.
            for (at = 0; at < BEAT_BYTES; at = at + 1) begin
                tkeep[at] <= at < left;
                tdata[8*at +: 8] <= at < left ? beats[index][8*at +: 8] : 8'ha5;
            end
            tlast <= left <= BEAT_BYTES;
            tuser <= left <= BEAT_BYTES && marked;
            playing = left > BEAT_BYTES;
            left = left - BEAT_BYTES;
            index = index + 1;
        end
        if (rst) begin
            tvalid <= 0;
            playing = 0;
            first <= 1;
        end
    end
endmodule

// Collects frames from an AXI4-Stream port, and watches that the port keeps to the protocol.
module packet_sink #(
    parameter BEAT_BYTES = 8,
    parameter MAX_BYTES = 4096,
    parameter SEED = 16'hbeef
) (
    input wire clk,
    input wire rst,
    input wire [63:0] cycle,
    input wire [8*BEAT_BYTES-1:0] tdata,
    input wire [BEAT_BYTES-1:0] tkeep,
    input wire tvalid,
    input wire tlast,
    output wire tready
);
    localparam BEATS = MAX_BYTES / BEAT_BYTES;

    // Setting: of 256 clocks, in how many the sink is not ready: 0 none, 256 all.
    reg [8:0] pause;
    // The last frame, stable until the first beat of the next one, its length, and the clocks of its first and last beat. `frames` counts up when they
    // are all there.
    reg [8*MAX_BYTES-1:0] frame;
    reg [15:0] length;
    reg [63:0] first, last;
    reg [31:0] frames;
    // What the port did wrong: bit 0 took a beat back or changed it while it waited, 1 a hole in tkeep, 2 a frame too long for this model,
    // 3 something in tdata beyond tkeep.
    reg [3:0] faults;

    reg [15:0] index, bytes, noise;
    reg waiting;
    reg [9*BEAT_BYTES:0] offered;
    integer lane;
    genvar byte_lane;

    wire [8*BEAT_BYTES-1:0] kept;
    generate
        for (byte_lane = 0; byte_lane < BEAT_BYTES; byte_lane = byte_lane + 1) begin : keep
            assign kept[8*byte_lane +: 8] = tkeep[byte_lane] ? tdata[8*byte_lane +: 8] : 8'h00;
        end
    endgenerate
    wire [9*BEAT_BYTES:0] offer = {tlast, tkeep, kept};
    wire [BEAT_BYTES-1:0] holes = tkeep & (tkeep + 1'b1);
    assign tready = noise[7:0] >= pause;

    initial begin
        pause = 0; frame = 0; length = 0; first = 0; last = 0; frames = 0; faults = 0;
        index = 0; bytes = 0; noise = SEED; waiting = 0; offered = 0;
    end

    always @(posedge clk) begin
        noise <= {noise[14:0], noise[15] ^ noise[13] ^ noise[12] ^ noise[10]};
        waiting <= tvalid && !tready && !rst;
        offered <= offer;
        if (waiting && (!tvalid || offer != offered)) faults[0] <= 1;
        if (tvalid && tready && !rst) begin
            if (holes != 0 || tkeep == 0 || !tlast && tkeep != {BEAT_BYTES{1'b1}}) faults[1] <= 1;
            if (tdata !== kept) faults[3] <= 1;
            if (index == BEATS) faults[2] <= 1;
            else frame[8*BEAT_BYTES*index +: 8*BEAT_BYTES] <= kept;
            if (index == 0) first <= cycle;
            for (lane = 0; lane < BEAT_BYTES; lane = lane + 1)
                bytes = bytes + tkeep[lane];
            if (index != BEATS) index <= index + 1;
            if (tlast) begin
                length <= bytes;
                last <= cycle;
                index <= 0;
                bytes = 0;
                frames <= frames + 1;
            end
        end
        if (rst) begin
            index <= 0;
            bytes = 0;
        end
    end
endmodule

// An AXI4-Lite master that does bursts: words to or from consecutive addresses, one access after the other.
module axil_master #(
    parameter MAX_WORDS = 64
) (
    input wire clk,
    input wire rst,
    output reg [15:0] awaddr,
    output reg awvalid,
    input wire awready,
    output reg [31:0] wdata,
    output wire [3:0] wstrb,
    output reg wvalid,
    input wire wready,
    input wire [1:0] bresp,
    input wire bvalid,
    output wire bready,
    output reg [15:0] araddr,
    output reg arvalid,
    input wire arready,
    input wire [31:0] rdata,
    input wire [1:0] rresp,
    input wire rvalid,
    output wire rready
);
    // Settings: byte address of the first word, number of words, whether to write, and what, word 0 in the low bits.
    reg [15:0] address;
    reg [7:0] count;
    reg write;
    reg [32*MAX_WORDS-1:0] data;
    reg request;
    // Flips when the burst has been done; then `result` holds what was read, and bit n of `refused` says that word n was answered with an error.
    reg accepted;
    reg [32*MAX_WORDS-1:0] result;
    reg [MAX_WORDS-1:0] refused;

    reg busy;
    reg [7:0] at;
    wire answered = write ? bvalid : rvalid;
    wire [7:0] next = busy ? at + 1'b1 : 8'd0;

    assign wstrb = 4'hf;
    assign bready = 1;
    assign rready = 1;

    initial begin
        address = 0; count = 0; write = 0; data = 0; request = 0; accepted = 0; result = 0; refused = 0;
        busy = 0; at = 0; awaddr = 0; wdata = 0; araddr = 0; awvalid = 0; wvalid = 0; arvalid = 0;
    end

    always @(posedge clk) begin
        if (awready) awvalid <= 0;
        if (wready) wvalid <= 0;
        if (arready) arvalid <= 0;
        if (busy && answered) begin
            if (!write) result[32*at +: 32] <= rdata;
            refused[at] <= write ? bresp != 0 : rresp != 0;
        end
        if (!busy && request != accepted || busy && answered && next != count) begin
            busy <= 1;
            at <= next;
            awaddr <= address + {next, 2'b00};
            araddr <= address + {next, 2'b00};
            wdata <= data[32*next +: 32];
            awvalid <= write;
            wvalid <= write;
            arvalid <= !write;
        end else if (busy && answered) begin
            busy <= 0;
            accepted <= request;
        end
        if (rst) begin
            busy <= 0;
            awvalid <= 0;
            wvalid <= 0;
            arvalid <= 0;
        end
    end
endmodule
