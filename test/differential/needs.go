package differential

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/structtest"
)

// A need is what a command wants of an object, and how to make such an object when
// there is none. Streams that took whatever there is had hardly a command run.
type need struct {
	fits func(*thing) bool
	make func(*generator) *thing
}

// get returns an object that meets the need, mostly.
func (g *generator) get(what func() need) *thing {
	t := g.find(what())
	g.keep = append(g.keep, t)
	return t
}

func (g *generator) find(n need) *thing {
	if g.chance(6) {
		return g.object(func(*thing) bool { return true })
	}
	var of []*thing
	for _, t := range g.objects {
		if n.fits(t) {
			of = append(of, t)
		}
	}
	if len(of) > 0 && !g.chance(10) {
		return of[g.IntN(len(of))]
	}
	if t := n.make(g); t != nil {
		return t
	}
	return g.object(n.fits)
}

// usable says that the private part is there and the authValue or policy known.
func usable(t *thing) bool { return !t.publicOnly && t.sequence == 0 && t.side[0].public != nil }

func aStorageKey() need {
	return need{
		func(t *thing) bool {
			return usable(t) && t.attr(tpm2.AttrRestricted|tpm2.AttrDecrypt) && t.public().Type != tpm2.AlgKeyedHash
		},
		func(g *generator) *thing { return g.primary(g.storage(), nil) },
	}
}

// anAsymmetricParent is an ECC or RSA storage key: both know it in half of the
// cases, so that each can take what the other one has made for it.
func anAsymmetricParent() need {
	return need{
		func(t *thing) bool {
			return usable(t) && t.attr(tpm2.AttrRestricted|tpm2.AttrDecrypt) && (t.public().Type == tpm2.AlgECC || t.public().Type == tpm2.AlgRSA)
		},
		func(g *generator) *thing {
			p := g.storage()
			for p.Type != tpm2.AlgECC {
				p = g.storage()
			}
			if g.chance(40) {
				return g.primary(p, nil)
			}
			if g.chance(40) {
				p.Type, p.Parameters.ECC = tpm2.AlgRSA, tpm2.ECCParms{}
				p.Parameters.RSA = tpm2.RSAParms{Symmetric: g.aes(), Scheme: tpm2.RSAScheme{Scheme: tpm2.AlgNull}, KeyBits: 2048}
			}
			return g.shared(p, nil)
		},
	}
}

func aSigner() need {
	return need{
		func(t *thing) bool { return usable(t) && t.attr(tpm2.AttrSign) && t.public().Type != tpm2.AlgSymCipher },
		(*generator).newSigner,
	}
}

func aDAAKey() need {
	return need{
		func(t *thing) bool {
			return usable(t) && t.public().Type == tpm2.AlgECC && t.public().Parameters.ECC.Scheme.Scheme == tpm2.AlgECDAA
		},
		func(g *generator) *thing {
			p := g.keyTemplate(tpm2.AttrSign)
			return g.external(ecc(p, eccParms(g.curve(), tpm2.ECCScheme{Scheme: tpm2.AlgECDAA, HashAlg: structtest.Pick(g.Source, tpm2.AlgSHA256, tpm2.AlgSHA1)})))
		},
	}
}

func anAgreementKey() need {
	return need{
		func(t *thing) bool {
			return usable(t) && t.public().Type == tpm2.AlgECC && t.attr(tpm2.AttrDecrypt) && !t.attr(tpm2.AttrRestricted)
		},
		func(g *generator) *thing {
			scheme := structtest.Pick(g.Source, tpm2.ECCScheme{Scheme: tpm2.AlgNull}, tpm2.ECCScheme{Scheme: tpm2.AlgECDH, HashAlg: tpm2.AlgSHA256})
			return g.own(ecc(g.keyTemplate(tpm2.AttrDecrypt), eccParms(g.curve(), scheme)))
		},
	}
}

func aCipher() need {
	return need{
		func(t *thing) bool {
			return usable(t) && t.public().Type == tpm2.AlgSymCipher && !t.attr(tpm2.AttrRestricted)
		},
		func(g *generator) *thing {
			p := g.keyTemplate(structtest.Pick(g.Source, tpm2.AttrSign|tpm2.AttrDecrypt, tpm2.AttrSign|tpm2.AttrDecrypt, tpm2.AttrSign|tpm2.AttrDecrypt, tpm2.AttrSign, tpm2.AttrDecrypt))
			p.Type = tpm2.AlgSymCipher
			p.Parameters.SymCipher = tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: structtest.Pick[uint16](g.Source, 128, 256), Mode: structtest.Pick(g.Source, tpm2.AlgCFB, tpm2.AlgCBC, tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgECB, tpm2.AlgNull, tpm2.AlgNull)}
			return g.external(p)
		},
	}
}

func aMACKey() need {
	return need{
		func(t *thing) bool {
			return usable(t) && t.attr(tpm2.AttrSign) && (t.public().Type == tpm2.AlgKeyedHash || t.public().Parameters.SymCipher.Mode == tpm2.AlgCMAC)
		},
		(*generator).newMACKey,
	}
}

func sealedData() need {
	return need{
		func(t *thing) bool { return usable(t) && t.sealed },
		func(g *generator) *thing {
			p := &tpm2.Public{Type: tpm2.AlgKeyedHash, NameAlg: g.Hash(), Attributes: tpm2.AttrUserWithAuth | structtest.Pick(g.Source, tpm2.AttrNoDA, 0)}
			p.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgNull}
			t := g.ownWith(p, g.Bytes(1+g.IntN(128)))
			if t != nil {
				t.sealed = true
			}
			return t
		},
	}
}

func anRSAKey() need {
	return need{
		func(t *thing) bool { return t.public().Type == tpm2.AlgRSA },
		func(g *generator) *thing { return g.newRSA(tpm2.AttrDecrypt) },
	}
}

func aPrivateRSAKey() need {
	return need{
		func(t *thing) bool { return usable(t) && t.public().Type == tpm2.AlgRSA && t.attr(tpm2.AttrDecrypt) },
		func(g *generator) *thing { return g.newRSA(tpm2.AttrDecrypt) },
	}
}

func aSequence() need {
	return need{
		func(t *thing) bool { return t.sequence != 0 && t.sequence != tpm2.AlgNull },
		func(g *generator) *thing {
			return g.started(structtest.Pick(g.Source, tpm2.CCHashSequenceStart, tpm2.CCHashSequenceStart, tpm2.CCHMACStart), false)
		},
	}
}

func anEventSequence() need {
	return need{
		func(t *thing) bool { return t.sequence == tpm2.AlgNull },
		func(g *generator) *thing { return g.started(tpm2.CCHashSequenceStart, true) },
	}
}

// aDuplicable object may be duplicated by its policy.
func aDuplicable() need {
	return need{
		func(t *thing) bool {
			return usable(t) && t.policy != nil && t.policy.allows(tpm2.CCDuplicate) && !t.attr(tpm2.AttrFixedParent)
		},
		func(g *generator) *thing {
			p := g.keyTemplate(tpm2.AttrSign)
			p = ecc(p, eccParms(g.curve(), tpm2.ECCScheme{Scheme: tpm2.AlgNull}))
			if g.chance(50) {
				return g.withPolicy(p, tpm2.CCDuplicate, g.shared)
			}
			if g.chance(30) {
				p.Attributes |= tpm2.AttrEncryptedDuplication
			}
			return g.withPolicy(p, tpm2.CCDuplicate, func(p *tpm2.Public, policy *recipe) *thing { return g.child(p, nil, policy) })
		},
	}
}

// aNamedKey is one that has a Name: half of them are the same for both.
func aNamedKey() need {
	return need{usable, func(g *generator) *thing { return g.own(g.plainKey()) }}
}

func aChild() need {
	return need{
		func(t *thing) bool { return usable(t) && t.blob != nil },
		func(g *generator) *thing { return g.child(g.plainKey(), nil, nil) },
	}
}
