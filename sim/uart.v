// SPDX-FileCopyrightText: The spigate contributors
//
// SPDX-License-Identifier: Apache-2.0

// The host's end of a serial line, bit by bit: Python hands over and takes bytes, as with the bus models of pump.v. 8N1.
module uart_host #(
    parameter CLOCKS = 8
) (
    input wire clk,
    input wire rst,
    output reg tx,
    input wire rx
);
    localparam SEND_BYTES = 64, KEEP_BYTES = 256;

    // Settings: bytes to be sent, the first one in the low bits, and their number, 1 to SEND_BYTES.
    reg [8*SEND_BYTES-1:0] data;
    reg [7:0] length;
    reg request;
    // Flips when the bytes have been taken over, which is when the last one before them has been sent.
    reg accepted;
    // Bytes received; byte n is in place n modulo KEEP_BYTES. `faults` counts those without a stop bit.
    reg [8*KEEP_BYTES-1:0] received;
    reg [31:0] count, faults;

    reg [8*SEND_BYTES-1:0] left;
    reg [7:0] bytes;
    reg [9:0] frame;
    reg [3:0] bits;
    reg [15:0] wait_clocks;

    reg [7:0] taken;
    reg [3:0] at;
    reg [15:0] sample_clocks;
    reg receiving;

    initial begin
        data = 0; length = 0; request = 0; accepted = 0; received = 0; count = 0; faults = 0;
        tx = 1; left = 0; bytes = 0; frame = 0; bits = 0; wait_clocks = 0;
        taken = 0; at = 0; sample_clocks = 0; receiving = 0;
    end

    always @(posedge clk) begin
        if (wait_clocks != 0) wait_clocks <= wait_clocks - 1;
        else if (bits != 0) begin
            tx <= frame[0];
            frame <= {1'b1, frame[9:1]};
            bits <= bits - 1;
            wait_clocks <= CLOCKS - 1;
        end else if (bytes != 0) begin
            tx <= 0;
            frame <= {2'b11, left[7:0]};
            bits <= 9;
            left <= left >> 8;
            bytes <= bytes - 1;
            wait_clocks <= CLOCKS - 1;
        end
        if (bytes == 0 && request != accepted && !rst) begin
            left <= data;
            bytes <= length;
            accepted <= request;
        end
    end

    always @(posedge clk) begin
        if (!receiving) begin
            receiving <= !rx && !rst;
            at <= 0;
            sample_clocks <= CLOCKS + CLOCKS / 2 - 1;
        end else if (sample_clocks != 0) sample_clocks <= sample_clocks - 1;
        else begin
            at <= at + 1;
            sample_clocks <= CLOCKS - 1;
            if (at != 8) taken <= {rx, taken[7:1]};
            else begin
                receiving <= 0;
                if (rx) begin
                    received[8*count[7:0] +: 8] <= taken;
                    count <= count + 1;
                end else faults <= faults + 1;
            end
        end
    end
endmodule
