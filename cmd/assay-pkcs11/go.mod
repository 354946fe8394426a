module github.com/assay-project/assay/cmd/assay-pkcs11

go 1.26.0

require github.com/miekg/pkcs11 v1.1.2
