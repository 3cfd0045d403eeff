// SPDX-FileCopyrightText: The spigate contributors
//
// SPDX-License-Identifier: Apache-2.0

// What a DP16KD does when port A writes and port B reads, with output registers: written after Lattice FPGA-TN-02204.
// 16 kbit and 2 kbit parity are kept as 512 words of 36 bits, each four groups of 8 bits and a parity bit.
module DP16KD #(
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18,
    parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG", RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC",
    parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000", WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL", GSR = "ENABLED"
) (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
);
    wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] adb = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [35:0] di = {
        DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
        DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};

    reg [35:0] cells [0:511];
    integer n;
    initial for (n = 0; n < 512; n = n + 1) cells[n] = 0;

    // Lowest bit of a word in its group of 36: 9 bits for every 8 of the address.
    function integer place(input [4:0] address, input integer width);
        place = width >= 9 ? address[4:3] * 9 : address[4:3] * 9 + address[2:0];
    endfunction
    function [4:0] aligned(input [4:0] address, input integer width);
        case (width)
            36: aligned = 0;
            18: aligned = address & 5'h10;
            9: aligned = address & 5'h18;
            4: aligned = address & 5'h1c;
            2: aligned = address & 5'h1e;
            default: aligned = address;
        endcase
    endfunction
    function enabled(input integer group);
        enabled = DATA_WIDTH_A < 18 || (DATA_WIDTH_A == 18 ? ada[group % 2] : ada[group]);
    endfunction

    integer bit_a, bit_b, base_a, base_b;
    reg [35:0] latched, registered;
    always @(posedge CLKA) if (CEA && WEA && {CSA2, CSA1, CSA0} == 0) begin
        base_a = place(aligned(ada[4:0], DATA_WIDTH_A), DATA_WIDTH_A);
        for (bit_a = 0; bit_a < DATA_WIDTH_A; bit_a = bit_a + 1)
            if (enabled(bit_a / 9)) cells[ada[13:5]][base_a + bit_a] <= di[bit_a];
    end
    always @(posedge CLKB) begin
        if (CEB && !WEB && {CSB2, CSB1, CSB0} == 0) begin
            base_b = place(aligned(adb[4:0], DATA_WIDTH_B), DATA_WIDTH_B);
            for (bit_b = 0; bit_b < DATA_WIDTH_B; bit_b = bit_b + 1)
                latched[bit_b] <= cells[adb[13:5]][base_b + bit_b];
        end
        if (OCEB) registered <= latched;
    end
    wire [35:0] read = REGMODE_B == "OUTREG" ? registered : latched;
    wire [17:0] doa = DATA_WIDTH_B == 36 ? read[17:0] : 18'bx;
    wire [17:0] dob = DATA_WIDTH_B == 36 ? read[35:18] : read[17:0];
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0} = doa;
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0} = dob;
endmodule
