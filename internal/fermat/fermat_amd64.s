//go:build !purego

#include "textflag.h"
#include "go_asm.h"

// A step has for each limb y[i] a row, and for each limb x[j] a column in it:
//
//	sums += x y[i];  q = sums[0]/-m modulo 2^52;  sums += q m;  sums /= 2^52
//
// VPMADD52LUQ adds the low 52 bits of a product of 52-bit numbers, VPMADD52HUQ the high
// 52 bits, and both take the low 52 bits of what they multiply. So sums[j] gets at
// most four numbers below 2^52 in each row, and a carry in one: with 40 limbs it stays
// below 2^60, and doubled below 2^61. Carries wait for the end of the step, but for that
// of sums[0], which is divided away; Z1 holds sums[0] from row to row.
//
// Only n and steps decide what runs and which addresses are used.

// func multiply(b *batch, y *[maxLimbs]limb, n, steps int)
TEXT ·multiply(SB), NOSPLIT, $0-32
	MOVQ b+0(FP), DI
	MOVQ y+8(FP), R9
	MOVQ n+16(FP), R10
	MOVQ steps+24(FP), R11
	LEAQ batch_x(DI), SI
	LEAQ batch_m(DI), R8
	LEAQ batch_sums(DI), DX
	VMOVDQU64 batch_inverse(DI), Z30
	VMOVDQU64 batch_doubled(DI), Z29
	VPTERNLOGQ $0xFF, Z31, Z31, Z31
	VPSRLQ $12, Z31, Z31 // 2^52 - 1
	VPXORQ Z28, Z28, Z28

step:
	VPXORQ Z1, Z1, Z1
	MOVQ R9, R12  // y[i]
	MOVQ R10, R13 // rows to go

row:
	VMOVDQU64 (R12), Z0
	VMOVDQU64 (SI), Z6
	VMOVDQU64 64(SI), Z8
	VMOVDQU64 (R8), Z7
	VMOVDQU64 64(R8), Z9
	VMOVDQU64 64(DX), Z5
	VPMADD52LUQ Z0, Z6, Z1
	VMOVDQA64 Z28, Z2
	VPMADD52LUQ Z30, Z1, Z2 // q
	VPMADD52HUQ Z0, Z6, Z5
	VPMADD52LUQ Z0, Z8, Z5
	VPMADD52LUQ Z2, Z7, Z1 // a multiple of 2^52
	VPMADD52HUQ Z2, Z7, Z5
	VPMADD52LUQ Z2, Z9, Z5
	VPSRLQ $52, Z1, Z1
	VPADDQ Z5, Z1, Z1

	LEAQ 128(SI), AX
	LEAQ 128(R8), BX
	LEAQ 64(DX), CX
	MOVQ R10, R14
	SUBQ $2, R14

	// Here Z8 is x[j-1], Z9 m[j-1]; sums[j] becomes sums[j-1], for two j.
columns:
	VMOVDQU64 (AX), Z6
	VMOVDQU64 (BX), Z7
	VMOVDQU64 64(CX), Z5
	VPMADD52HUQ Z0, Z8, Z5
	VPMADD52LUQ Z0, Z6, Z5
	VPMADD52HUQ Z2, Z9, Z5
	VPMADD52LUQ Z2, Z7, Z5
	VMOVDQU64 Z5, (CX)
	VMOVDQU64 64(AX), Z8
	VMOVDQU64 64(BX), Z9
	VMOVDQU64 128(CX), Z10
	VPMADD52HUQ Z0, Z6, Z10
	VPMADD52LUQ Z0, Z8, Z10
	VPMADD52HUQ Z2, Z7, Z10
	VPMADD52LUQ Z2, Z9, Z10
	VMOVDQU64 Z10, 64(CX)
	ADDQ $128, AX
	ADDQ $128, BX
	ADDQ $128, CX
	SUBQ $2, R14
	JNZ columns

	VMOVDQA64 Z28, Z5
	VPMADD52HUQ Z0, Z8, Z5
	VPMADD52HUQ Z2, Z9, Z5
	VMOVDQU64 Z5, (CX)
	ADDQ $64, R12
	DECQ R13
	JNZ row

	// The carries, and the doubling of lanes whose bit is set.
	VPSRLQ $63, Z29, Z10
	VPSLLQ $1, Z29, Z29
	MOVQ SI, AX
	MOVQ DX, CX
	MOVQ R10, R14
	VPSLLVQ Z10, Z1, Z1
	JMP first

carries:
	VMOVDQU64 (CX), Z5
	VPSLLVQ Z10, Z5, Z5
	VPADDQ Z5, Z1, Z1

first:
	VPANDQ Z31, Z1, Z6
	VMOVDQU64 Z6, (AX)
	VMOVDQU64 Z28, (CX)
	VPSRLQ $52, Z1, Z1
	ADDQ $64, AX
	ADDQ $64, CX
	DECQ R14
	JNZ carries

	DECQ R11
	JNZ step
	VZEROUPPER
	RET
