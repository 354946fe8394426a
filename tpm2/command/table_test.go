package command_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// handleAreas has for each command its code, its handles and > when the response
// has one. A handle is its role, - u a d, and what it may be: o an object, O one
// or null, e any entity or null, E any entity, p a PCR, P one or null, s a policy
// session, h an HMAC session, n an NV index, N one or an owner of it, D a defined
// one, c a context, and in brackets the hierarchies: o owner, e endorsement, p
// platform, l lockout, 0 null.
const handleAreas = `
11f NV_UndefineSpaceSpecial aD u(p)
120 EvictControl u(op) -o
121 HierarchyControl u(oep)
122 NV_UndefineSpace u(op) -D
124 ChangeEPS u(p)
125 ChangePPS u(p)
126 Clear u(pl)
127 ClearControl u(pl)
128 ClockSet u(op)
129 HierarchyChangeAuth u(oepl)
12a NV_DefineSpace u(op)
12b PCR_Allocate u(p)
12c PCR_SetAuthPolicy u(p)
12d PP_Commands u(p)
12e SetPrimaryPolicy u(oepl)
130 ClockRateAdjust u(op)
131 CreatePrimary u(oep0) >
132 NV_GlobalWriteLock u(op)
133 GetCommandAuditDigest u(e) uO
134 NV_Increment uN -n
135 NV_SetBits uN -n
136 NV_Extend uN -n
137 NV_Write uN -n
138 NV_WriteLock uN -n
139 DictionaryAttackLockReset u(l)
13a DictionaryAttackParameters u(l)
13b NV_ChangeAuth an
13c PCR_Event uP
13d PCR_Reset up
13e SequenceComplete uo
13f SetAlgorithmSet u(p)
140 SetCommandCodeAuditStatus u(op)
142 IncrementalSelfTest
143 SelfTest
144 Startup
145 Shutdown
146 StirRandom
147 ActivateCredential ao uo
148 Certify ao uO
149 PolicyNV uN -n -s
14a CertifyCreation uO -o
14b Duplicate do -O
14c GetTime u(e) uO
14d GetSessionAuditDigest u(e) uO -h
14e NV_Read uN -n
14f NV_ReadLock uN -n
150 ObjectChangeAuth ao -o
151 PolicySecret uE -s
152 Rewrap uO -O
153 Create uo
154 ECDH_ZGen uo
155 HMAC uo
156 Import uo
157 Load uo >
158 Quote uO
159 RSA_Decrypt uo
15b HMAC_Start uo >
15c SequenceUpdate uo
15d Sign uo
15e Unseal uo
160 PolicySigned -o -s
161 ContextLoad >
162 ContextSave -c
163 ECDH_KeyGen -o
164 EncryptDecrypt uo
165 FlushContext
167 LoadExternal >
168 MakeCredential -o
169 NV_ReadPublic -n
16a PolicyAuthorize -s
16b PolicyAuthValue -s
16c PolicyCommandCode -s
16d PolicyCounterTimer -s
16e PolicyCpHash -s
16f PolicyLocality -s
170 PolicyNameHash -s
171 PolicyOR -s
172 PolicyTicket -s
173 ReadPublic -o
174 RSA_Encrypt -o
176 StartAuthSession -O -e >
177 VerifySignature -o
178 ECC_Parameters
17a GetCapability
17b GetRandom
17c GetTestResult
17d Hash
17e PCR_Read
17f PolicyPCR -s
180 PolicyRestart -s
181 ReadClock
182 PCR_Extend uP
183 PCR_SetAuthValue up
184 NV_Certify uO uN -n
185 EventSequenceComplete uP uo
186 HashSequenceStart >
187 PolicyPhysicalPresence -s
188 PolicyDuplicationSelect -s
189 PolicyGetDigest -s
18a TestParms
18b Commit uo
18c PolicyPassword -s
18d ZGen_2Phase uo
18e EC_Ephemeral
18f PolicyNvWritten -s
190 PolicyTemplate -s
191 CreateLoaded uo(oep0) >
192 PolicyAuthorizeNV uN -n -s
193 EncryptDecrypt2 uo
197 CertifyX509 ao uO
199 ECC_Encrypt -o
19a ECC_Decrypt uo
19b PolicyCapability -s
19c PolicyParameters -s
19d NV_DefineSpace2 u(op)
19e NV_ReadPublic2 -n
1a0 ReadOnlyControl u(p)
1a3 VerifySequenceComplete uo -o
1a4 SignSequenceComplete uo uo
1a5 VerifyDigestSignature -o
1a6 SignDigest uo
1a7 Encapsulate -o
1a8 Decapsulate uo
1a9 VerifySequenceStart -o >
1aa SignSequenceStart -o >
`

// samples are handles of which each type of the table above allows some.
func samples() map[string]tpm2.Handle {
	return map[string]tpm2.Handle{
		"owner": tpm2.HandleOwner, "endorsement": tpm2.HandleEndorsement, "platform": tpm2.HandlePlatform, "lockout": tpm2.HandleLockout, "null": tpm2.HandleNull,
		"transient": 0x80000002, "persistent": 0x81000001, "pcr": 23, "hmac": 0x02000001, "policy": 0x03000001, "nv": 0x01800001,
	}
}

// allowed gives the samples that a word of handleAreas allows.
func allowed(word string) map[string]bool {
	out := map[string]bool{}
	add := func(names ...string) {
		for _, n := range names {
			out[n] = true
		}
	}
	kind, hierarchies, _ := strings.Cut(word, "(")
	for _, k := range kind {
		switch k {
		case 'o':
			add("transient", "persistent")
		case 'O':
			add("transient", "persistent", "null")
		case 'E', 'e':
			add("transient", "persistent", "owner", "endorsement", "platform", "lockout", "pcr", "nv")
			if k == 'e' {
				add("null")
			}
		case 'p':
			add("pcr")
		case 'P':
			add("pcr", "null")
		case 's':
			add("policy")
		case 'h':
			add("hmac")
		case 'n', 'D':
			add("nv")
		case 'N':
			add("nv", "owner", "platform")
		case 'c':
			add("hmac", "policy", "transient")
		}
	}
	for _, k := range hierarchies {
		add(map[rune]string{'o': "owner", 'e': "endorsement", 'p': "platform", 'l': "lockout", '0': "null", ')': ""}[k])
	}
	delete(out, "")
	return out
}

func TestHandleAreasAreThoseOfPart3(t *testing.T) {
	limits := tpm2.HandleLimits{PCRs: 24, Sessions: 64, Transients: 3}
	roles := map[byte]command.Role{'-': command.RoleNone, 'u': command.RoleUser, 'a': command.RoleAdmin, 'd': command.RoleDup}
	n := 0
	for line := range strings.Lines(strings.TrimSpace(handleAreas)) {
		words := strings.Fields(line)
		var code tpm2.CC
		if _, err := fmt.Sscanf(words[0], "%x", (*uint32)(&code)); err != nil {
			t.Fatal(err)
		}
		n++
		info, ok := command.Lookup(code)
		if !ok || info.Name != "TPM2_"+words[1] {
			t.Errorf("Lookup(%#x) = %+v, %v, want %s", uint32(code), info, ok, words[1])
			continue
		}
		handles := words[2:]
		if last := len(words) - 1; words[last] == ">" {
			handles = words[2:last]
		}
		if len(handles) != len(info.Handles) || (words[len(words)-1] == ">") != (info.Response != "") {
			t.Errorf("%s: handles are %+v, response %q, want %s", info.Name, info.Handles, info.Response, line)
			continue
		}
		for i, word := range handles {
			h := info.Handles[i]
			if h.Role != roles[word[0]] {
				t.Errorf("%s: role of %s is %v, want %c", info.Name, h.Name, h.Role, word[0])
			}
			want := allowed(word[1:])
			for name, sample := range samples() {
				if got := h.Type.Check(sample, limits) == tpm2.RCSuccess; got != want[name] {
					t.Errorf("%s: %s may be a %s handle: %v, want %v", info.Name, h.Name, name, got, want[name])
				}
			}
		}
	}
	if n != len(command.All()) {
		t.Errorf("the list has %d commands, the table %d", n, len(command.All()))
	}
}

func TestHandleTypesKeepToTheLimits(t *testing.T) {
	small := tpm2.HandleLimits{PCRs: 24, Sessions: 64, Transients: 3}
	for name, tc := range map[string]struct {
		t    command.HandleType
		h    tpm2.Handle
		l    tpm2.HandleLimits
		want bool
	}{
		"last transient":              {command.HandleObject, 0x80000002, small, true},
		"transient beyond the limit":  {command.HandleObject, 0x80000003, small, false},
		"last HMAC session":           {command.HandleHMACSession, 0x0200003f, small, true},
		"HMAC session beyond":         {command.HandleHMACSession, 0x02000040, small, false},
		"policy session is no HMAC":   {command.HandleHMACSession, 0x03000000, small, false},
		"policy session beyond":       {command.HandlePolicySession, 0x03000040, small, false},
		"PCR beyond":                  {command.HandlePCR, 24, small, false},
		"password":                    {command.HandleAuthSessionOrPassword, tpm2.HandlePassword, small, true},
		"no password":                 {command.HandleAuthSession, tpm2.HandlePassword, small, false},
		"auth session":                {command.HandleAuthSession, 0x03000001, small, true},
		"saved object":                {command.HandleSaved, 0x80000002, small, true},
		"saved object of no kind":     {command.HandleSaved, 0x80000003, tpm2.AllHandles(), false},
		"vendor's authorization":      {command.HandleEntity, tpm2.HandleAuth00 + 1, small, true},
		"ACT policy":                  {command.HandleHierarchyPolicy, tpm2.HandleACTF, small, true},
		"ACT authorization":           {command.HandleHierarchyAuth, tpm2.HandleACTF, small, false},
		"firmware-limited":            {command.HandleHierarchyOrNull, tpm2.HandleFWOwner, tpm2.AllHandles(), true},
		"firmware-limited, not there": {command.HandleHierarchyOrNull, tpm2.HandleFWOwner, small, false},
		"SVN-limited":                 {command.HandleParent, tpm2.HandleSVNNull | 0xffff, tpm2.AllHandles(), true},
		"beyond SVN-limited":          {command.HandleParent, 0x40050000, tpm2.AllHandles(), false},
		"hierarchy without null":      {command.HandleHierarchy, tpm2.HandleNull, small, false},
		"external NV":                 {command.HandleNVDefined, 0x11000000, tpm2.AllHandles(), true},
		"external NV, not there":      {command.HandleNVDefined, 0x11000000, small, false},
		"permanent NV":                {command.HandleNVIndex, 0x12000000, tpm2.AllHandles(), true},
		"permanent NV is not defined": {command.HandleNVDefined, 0x12000000, tpm2.AllHandles(), false},
		"platform NV is an enable":    {command.HandleEnables, tpm2.HandlePlatformNV, small, true},
		"lockout is no enable":        {command.HandleEnables, tpm2.HandleLockout, small, false},
		"owner alone":                 {command.HandleOwner, tpm2.HandlePlatform, small, false},
		"endorsement or null":         {command.HandleEndorsementOrNull, tpm2.HandleNull, small, true},
		"persistent":                  {command.HandlePersistent, 0x81ffffff, small, true},
		"transient is not persistent": {command.HandlePersistent, 0x80000000, small, false},
		"the zero type":               {0, tpm2.HandleOwner, tpm2.AllHandles(), false},
		"an unknown type":             {200, tpm2.HandleOwner, tpm2.AllHandles(), false},
	} {
		t.Run(name, func(t *testing.T) {
			want := tpm2.RCValue
			if tc.want {
				want = tpm2.RCSuccess
			}
			if got := tc.t.Check(tc.h, tc.l); got != want {
				t.Errorf("Check(%v) = %v, want %v", tc.h, got, want)
			}
		})
	}
}
