// Package arch holds the shape of the code as tests: which package may import
// which (order.txt), and the habits that every package keeps.
//
// It has no code of its own; read arch_test.go.
package arch
