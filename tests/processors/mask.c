/* Loaded into every process: cpuid faults, and is answered without the bits of LESS.
 *
 * LESS 1: AVX2 and nothing above it. LESS 2: AVX-512 without VNNI. Neither has AMX.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

static struct sigaction others; /* what the program wants done with its own faults */
static int has_others, is_on;
static int (*real_sigaction)(int, const struct sigaction *, struct sigaction *);

static void ask(uint32_t leaf, uint32_t part, uint32_t *r)
{
	syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1L);
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(part));
	syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0L);
}

static void take_away(uint32_t leaf, uint32_t part, uint32_t *r)
{
	if (leaf == 7 && part == 0) {
		r[2] &= ~BIT(11);                                         /* avx512_vnni */
		r[3] &= ~(BIT(2) | BIT(3) | BIT(22) | BIT(24) | BIT(25)); /* 4vnniw, 4fmaps, amx */
		if (LESS == 1) {
			/* f, dq, ifma, pf, er, cd, bw, vl; vbmi, vbmi2, bitalg, vpopcntdq; vp2intersect, fp16 */
			r[1] &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
			r[2] &= ~(BIT(1) | BIT(6) | BIT(12) | BIT(14));
			r[3] &= ~(BIT(8) | BIT(23));
		}
	}
	if (leaf == 7 && part == 1) {
		r[0] &= ~BIT(4);              /* avx_vnni */
		r[3] &= ~(BIT(4) | BIT(10));  /* avx_vnni_int8, avx_vnni_int16 */
		if (LESS == 1)
			r[0] &= ~BIT(5);      /* avx512_bf16 */
	}
}

static void on_fault(int number, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	const unsigned char *at = (const unsigned char *)g[REG_RIP];

	if (info->si_code == SI_KERNEL && at && at[0] == 0x0f && at[1] == 0xa2) {
		uint32_t leaf = g[REG_RAX], part = g[REG_RCX], r[4];

		ask(leaf, part, r);
		take_away(leaf, part, r);
		g[REG_RAX] = r[0], g[REG_RBX] = r[1], g[REG_RCX] = r[2], g[REG_RDX] = r[3];
		g[REG_RIP] += 2;
		return;
	}
	if (has_others && (others.sa_flags & SA_SIGINFO)) {
		others.sa_sigaction(number, info, context);
	} else if (has_others && others.sa_handler != SIG_DFL && others.sa_handler != SIG_IGN) {
		others.sa_handler(number);
	} else {
		struct sigaction fatal;

		memset(&fatal, 0, sizeof fatal);
		fatal.sa_handler = SIG_DFL;
		real_sigaction(SIGSEGV, &fatal, NULL); /* the fault comes again, and ends the process */
	}
}

int sigaction(int number, const struct sigaction *wanted, struct sigaction *before)
{
	if (!real_sigaction)
		real_sigaction = dlsym(RTLD_NEXT, "sigaction");
	if (number != SIGSEGV || !is_on)
		return real_sigaction(number, wanted, before);
	if (before) {
		memset(before, 0, sizeof *before);
		if (has_others)
			*before = others;
	}
	if (wanted)
		others = *wanted, has_others = 1;
	return 0;
}

void (*signal(int number, void (*handler)(int)))(int)
{
	struct sigaction wanted, before;

	memset(&wanted, 0, sizeof wanted);
	wanted.sa_handler = handler;
	wanted.sa_flags = SA_RESTART;
	return sigaction(number, &wanted, &before) ? SIG_ERR : before.sa_handler;
}

__attribute__((constructor)) static void begin(void)
{
	struct sigaction ours;

	real_sigaction = dlsym(RTLD_NEXT, "sigaction");
	memset(&ours, 0, sizeof ours);
	ours.sa_sigaction = on_fault;
	ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
	if (!real_sigaction(SIGSEGV, &ours, NULL))
		is_on = !syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0L);
}
