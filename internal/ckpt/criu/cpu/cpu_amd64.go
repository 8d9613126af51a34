package cpu

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cpuid is the instruction, with EAX and ECX set.
func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)

// xgetbv reads the register XCR0: which registers the kernel switches.
func xgetbv() uint64

// Bits of XCR0. The instructions of a group can be used if all of theirs are set.
const (
	ymm    = 1<<1 | 1<<2
	bounds = 1<<3 | 1<<4
	zmm    = ymm | 1<<5 | 1<<6 | 1<<7
	tiles  = 1<<17 | 1<<18
	more   = 1 << 19 // of APX

	// linker is what the GNU C library saves (STATE_SAVE_MASK in its sysdeps/x86).
	linker = 1<<1 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<7
)

// The registers in which cpuid answers.
const (
	eax = iota
	ebx
	ecx
	edx
)

// groups are the features: bits of what cpuid answers, with their names. The numbers are
// those of Intel's and AMD's manuals, the names those of Linux (cpufeatures.h). What every
// processor for 64 bits has is not there, not even under another name such as mmxext, and
// neither are hints, which others ignore.
var groups = []struct {
	leaf, sub uint32
	register  int
	state     uint64 // of XCR0
	features  string
}{
	{1, 0, ecx, 0, "0 pni 1 pclmulqdq 9 ssse3 13 cx16 19 sse4_1 20 sse4_2 22 movbe 23 popcnt 25 aes 27 xsave 30 rdrand"},
	{1, 0, ecx, ymm, "12 fma 28 avx 29 f16c"},
	{7, 0, ebx, 0, "0 fsgsbase 3 bmi1 8 bmi2 11 rtm 18 rdseed 19 adx 23 clflushopt 24 clwb 29 sha_ni"},
	{7, 0, ebx, ymm, "5 avx2"},
	{7, 0, ebx, bounds, "14 mpx"},
	{7, 0, ebx, zmm, "16 avx512f 17 avx512dq 21 avx512ifma 26 avx512pf 27 avx512er 28 avx512cd 30 avx512bw 31 avx512vl"},
	{7, 0, ecx, 0, "4 ospke 5 waitpkg 8 gfni 22 rdpid 27 movdiri 28 movdir64b"},
	{7, 0, ecx, ymm, "9 vaes 10 vpclmulqdq"},
	{7, 0, ecx, zmm, "1 avx512vbmi 6 avx512_vbmi2 11 avx512_vnni 12 avx512_bitalg 14 avx512_vpopcntdq"},
	{7, 0, edx, 0, "14 serialize 16 tsxldtrk"},
	{7, 0, edx, zmm, "2 avx512_4vnniw 3 avx512_4fmaps 8 avx512_vp2intersect 23 avx512_fp16"},
	{7, 0, edx, tiles, "22 amx_bf16 24 amx_tile 25 amx_int8"},
	{7, 1, eax, 0, "3 raoint 6 cmpccxadd"},
	{7, 1, eax, ymm, "0 sha512 1 sm3 2 sm4 4 avx_vnni 23 avx_ifma"},
	{7, 1, eax, zmm, "5 avx512_bf16"},
	{7, 1, eax, tiles, "21 amx_fp16"},
	{7, 1, edx, ymm, "4 avx_vnni_int8 5 avx_ne_convert 10 avx_vnni_int16"},
	{7, 1, edx, zmm, "19 avx10"},
	{7, 1, edx, tiles, "8 amx_complex"},
	{7, 1, edx, more, "21 apx"},
	{0xd, 1, eax, ymm, "0 xsaveopt 1 xsavec 2 xgetbv1"},
	{0x80000001, 0, ecx, 0, "0 lahf_lm 5 abm 6 sse4a 7 misalignsse 21 tbm"},
	{0x80000001, 0, ecx, ymm, "11 xop 16 fma4"},
	{0x80000001, 0, edx, 0, "27 rdtscp 30 3dnowext 31 3dnow"},
	{0x80000008, 0, ebx, 0, "0 clzero 4 rdpru"},
}

// Here returns the features of this machine's processor.
func Here() (f Features) {
	// In a virtual machine each cpuid takes some ten microseconds, in which processes may
	// be frozen.
	answers := make(map[[2]uint32][4]uint32)
	cpuid := func(leaf, sub uint32) (a, b, c, d uint32) {
		answer, known := answers[[2]uint32{leaf, sub}]
		if !known {
			answer[eax], answer[ebx], answer[ecx], answer[edx] = cpuid(leaf, sub)
			answers[[2]uint32{leaf, sub}] = answer
		}
		return answer[eax], answer[ebx], answer[ecx], answer[edx]
	}
	const osxsave = 1 << 27
	var state uint64
	if _, _, c, _ := cpuid(1, 0); c&osxsave != 0 {
		state = xgetbv()
	}
	for _, g := range groups {
		if most, _, _, _ := cpuid(g.leaf&0x80000000, 0); most < g.leaf || state&g.state != g.state {
			continue
		}
		if subs, _, _, _ := cpuid(g.leaf, 0); g.leaf == 7 && subs < g.sub {
			continue
		}
		var answer [4]uint32
		answer[eax], answer[ebx], answer[ecx], answer[edx] = cpuid(g.leaf, g.sub)
		words := strings.Fields(g.features)
		for i := 0; i < len(words); i += 2 {
			bit, name := words[i], words[i+1]
			if n, _ := strconv.Atoi(bit); answer[g.register]>>n&1 != 0 && (name != "fsgsbase" || basesAllowed()) {
				f.Names = append(f.Names, name)
			}
		}
	}
	for i := range 8 {
		if state&linker>>i&1 != 0 {
			const legacy = 576 // bytes, with a header
			size, offset, _, _ := cpuid(0xd, uint32(i))
			f.Registers = max(f.Registers, int(size+offset), legacy)
		}
	}
	return f
}

// basesAllowed reports whether the kernel allows the instructions of fsgsbase.
func basesAllowed() bool {
	const hwcap2, fsgsbase = 26, 1 << 1 // AT_HWCAP2 and HWCAP2_FSGSBASE
	vector, _ := unix.Auxv()
	for _, entry := range vector {
		if entry[0] == hwcap2 {
			return entry[1]&fsgsbase != 0
		}
	}
	return false
}
