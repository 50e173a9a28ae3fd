// Changes its memory in every way there is, and checks all of it against a model, for ever: what the isolation
// suite runs in clones that share pages. `stress` writes how many rounds it has done to /tmp/rounds, and what was
// wrong to /tmp/wrong, after which it ends. The model lies in MAP_SHARED memory, which clones never share.
//
// Two threads own every other page of the same memory, so that they copy neighbours at the same time. Every page is
// the pattern of its number and version; version 0 is a page of zeros.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, PAGES = 8192, THREADS = 2, CODES = 64, BLOCKS = 256, WALLS = 256, HUGE = 16 << 20 };

typedef struct {
	volatile uint64_t rounds[THREADS];
	uint32_t version[PAGES], code[CODES], block[THREADS][BLOCKS];
} model_t;

static model_t *model;
static char *memory, *codes;
static pthread_mutex_t addresses = PTHREAD_MUTEX_INITIALIZER; // held while a hole in `memory` must not be taken

typedef struct {
	int index, file, private_file;
	uint64_t random, drawn;
	char *scratch, *shared, *walls;
} worker_t;

static void wrong(const char *format, ...) {
	char text[400];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	int file = open("/tmp/wrong", O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (write(file, text, length) < 0) abort();
	_exit(1);
}

#define MUST(condition) do { if (!(condition)) wrong("line %d: %s: %s\n", __LINE__, #condition, strerror(errno)); } while (0)

static uint64_t mix(uint64_t x) {
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static uint64_t draw(worker_t *w) { // clones must differ: fresh entropy every now and then
	if (w->drawn++ % 64 == 0) MUST(getrandom(&w->random, sizeof w->random, 0) == sizeof w->random);
	return w->random = mix(w->random + 0x9e3779b97f4a7c15);
}

static void fill(void *at, uint64_t page, uint32_t version) {
	uint64_t *words = at, seed = mix(page << 32 | version);
	for (int i = 0; i < WORDS; i++) words[i] = version ? seed + (uint64_t)i * 0x9e3779b97f4a7c15 : 0;
}

static void check(const void *at, uint64_t page, uint32_t version, const char *where) {
	const uint64_t *words = at;
	uint64_t seed = mix(page << 32 | version);
	for (int i = 0; i < WORDS; i++) {
		uint64_t wanted = version ? seed + (uint64_t)i * 0x9e3779b97f4a7c15 : 0;
		if (words[i] != wanted)
			wrong("%s: page %lu version %u word %d is %lx, not %lx\n", where, page, version, i, words[i], wanted);
	}
}

static void join(pid_t child, const char *what) {
	int status;
	MUST(waitpid(child, &status, 0) == child);
	if (status != 0) wrong("%s: the child ended with %x\n", what, status);
}

static void forked(worker_t *w) {
	uint64_t ours = draw(w) % (PAGES / THREADS) * THREADS + w->index; // whose version changes while the child looks
	pid_t child = fork();
	MUST(child >= 0);
	if (child == 0) {
		for (int i = 0; i < 32; i++) {
			uint64_t p = draw(w) % (PAGES / THREADS) * THREADS + w->index;
			if (p == ours) continue;
			char *at = memory + p * PAGE;
			if (i % 2) check(at, p, model->version[p], "child, before it wrote");
			fill(at, p, 0xffffff00 + i);
			check(at, p, 0xffffff00 + i, "child");
			fill(at, p, model->version[p]);
		}
		fill(w->shared, 7, (uint32_t)w->random | 1);
		*(uint64_t *)(w->shared + PAGE) = w->random;
		_exit(0);
	}
	fill(memory + ours * PAGE, ours, ++model->version[ours]); // both sides write
	join(child, "fork");
	check(w->shared, 7, (uint32_t)*(uint64_t *)(w->shared + PAGE) | 1, "shared with the child");
}

static void traced(uint64_t p) {
	char *at = memory + p * PAGE;
	pid_t child = fork();
	MUST(child >= 0);
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) _exit(3);
		raise(SIGSTOP);
		_exit(*(volatile uint64_t *)at == 0x1234567 ? 0 : 4);
	}
	int status;
	MUST(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
	MUST(ptrace(PTRACE_POKEDATA, child, at, 0x1234567) == 0);
	MUST(ptrace(PTRACE_CONT, child, 0, 0) == 0);
	join(child, "ptrace");
}

static void moved(worker_t *w, uint64_t p) {
	char *at = memory + p * PAGE;
	pthread_mutex_lock(&addresses);
	MUST(mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, w->scratch) == w->scratch);
	check(w->scratch, p, model->version[p], "moved");
	fill(w->scratch, p, ++model->version[p]);
	MUST(mremap(w->scratch, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at) == at);
	MUST(mmap(w->scratch, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == w->scratch);
	pthread_mutex_unlock(&addresses);
}

static void much(worker_t *w) {
	pthread_mutex_lock(&addresses);
	char *at = mmap(0, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_mutex_unlock(&addresses);
	MUST(at != MAP_FAILED);
	for (int p = w->index; p < HUGE / PAGE; p += 61) check(at + p * PAGE, p, 0, "fresh"), fill(at + p * PAGE, p, 9);
	for (int p = w->index; p < HUGE / PAGE; p += 61) check(at + p * PAGE, p, 9, "huge");
	MUST(munmap(at, HUGE) == 0);
}

static void coded(worker_t *w) {
	int slot = draw(w) % (CODES / THREADS) * THREADS + w->index;
	unsigned char *at = (unsigned char *)codes + slot * PAGE;
	uint32_t (*function)(void) = (void *)at;
	if (function() != model->code[slot]) wrong("code %d returns %u, not %u\n", slot, function(), model->code[slot]);
	int strict = draw(w) % 2; // as compilers at run time do: never writable and executable at once
	if (strict) MUST(mprotect(at, PAGE, PROT_READ | PROT_WRITE) == 0);
	memcpy(at + 1, &(uint32_t){++model->code[slot]}, 4);
	if (strict) MUST(mprotect(at, PAGE, PROT_READ | PROT_EXEC) == 0);
	if (function() != model->code[slot]) wrong("new code %d returns %u\n", slot, function());
	if (strict) MUST(mprotect(at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
}

static __thread sigjmp_buf refused;

static void refuse(int signal) {
	siglongjmp(refused, signal);
}

static void walled(worker_t *w) { // what is copied beside a page that may only be read leaves it so
	char *at = w->walls + draw(w) % WALLS * 4 * PAGE;
	MUST(mprotect(at + PAGE, PAGE, PROT_READ) == 0);
	at[0]++, at[2 * PAGE]++;
	if (sigsetjmp(refused, 1) == 0) {
		*(volatile char *)(at + PAGE) = 1;
		wrong("a page that may only be read was written\n");
	}
	MUST(mprotect(at + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
}

static void filed(worker_t *w) {
	char buffer[PAGE];
	int b = draw(w) % BLOCKS;
	uint32_t *version = &model->block[w->index][b];
	MUST(pread(w->file, buffer, PAGE, b * PAGE) == PAGE);
	check(buffer, b, *version, "file");
	pthread_mutex_lock(&addresses);
	char *map = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, w->file, b * PAGE);
	pthread_mutex_unlock(&addresses);
	MUST(map != MAP_FAILED);
	fill(map, b, *version + 5);
	MUST(pread(w->file, buffer, PAGE, b * PAGE) == PAGE);
	check(buffer, b, *version, "file under a private mapping");
	MUST(munmap(map, PAGE) == 0);
	fill(buffer, b, ++*version);
	MUST(pwrite(w->file, buffer, PAGE, b * PAGE) == PAGE);
}

static void change(worker_t *w) {
	uint64_t p = draw(w) % (PAGES / THREADS) * THREADS + w->index;
	char *at = memory + p * PAGE, buffer[PAGE];
	uint32_t *version = &model->version[p], next = *version + 1;
	struct iovec mine = {buffer, PAGE}, theirs = {at, PAGE};
	if (draw(w) % 2) check(at, p, *version, "before");
	switch (draw(w) % 40) {
	case 0: forked(w); break;
	case 1: traced(p); break;
	case 2: much(w); break;
	case 3: case 4: moved(w, p); break;
	case 5: case 6: coded(w); break;
	case 7: case 8: filed(w); break;
	case 9: MUST(madvise(at, PAGE, MADV_DONTNEED) == 0); *version = 0; break;
	case 10:
		if (madvise(at, PAGE, MADV_FREE) == 0) fill(at, p, next), *version = next;
		break;
	case 11: case 12:
		MUST(mprotect(at, PAGE, draw(w) % 2 ? PROT_NONE : PROT_READ) == 0 && mprotect(at, PAGE, PROT_READ) == 0);
		check(at, p, *version, "protected");
		MUST(mprotect(at, PAGE, PROT_READ | PROT_WRITE) == 0);
		break;
	case 13: case 14: case 15: // the kernel writes
		fill(buffer, p, next);
		MUST(process_vm_writev(getpid(), &mine, 1, &theirs, 1, 0) == PAGE);
		*version = next;
		break;
	case 16:
		MUST(process_vm_readv(getpid(), &mine, 1, &theirs, 1, 0) == PAGE);
		check(buffer, p, *version, "process_vm_readv");
		break;
	case 17: case 18:
		fill(buffer, p, next);
		MUST(pwrite(w->private_file, buffer, PAGE, 0) == PAGE && pread(w->private_file, at, PAGE, 0) == PAGE);
		*version = next;
		break;
	case 19: {
		int file = open("/proc/self/mem", O_RDWR);
		if (file < 0) file = open("/proc/self/mem", O_RDONLY);
		MUST(file >= 0 && pread(file, buffer, PAGE, (off_t)(uintptr_t)at) == PAGE);
		check(buffer, p, *version, "/proc/self/mem");
		fill(buffer, p, next);
		if (pwrite(file, buffer, PAGE, (off_t)(uintptr_t)at) == PAGE) *version = next;
		close(file);
		break;
	}
	case 20: {
		pid_t child = vfork();
		MUST(child >= 0);
		if (child == 0) {
			fill(at, p, next);
			_exit(0);
		}
		*version = next;
		join(child, "vfork");
		break;
	}
	case 21: { // a long run in order, as a program that fills an array
		for (uint64_t q = p; q < PAGES && q < p + 128; q += THREADS) fill(memory + q * PAGE, q, ++model->version[q]);
		break;
	}
	case 22: {
		unsigned char there;
		MUST(msync(at, PAGE, MS_SYNC) == 0 && mincore(at, PAGE, &there) == 0);
		break;
	}
	case 23: walled(w); break;
	case 24: case 25: case 26: case 27: case 28: break; // reads only
	default: fill(at, p, next); *version = next;
	}
	check(at, p, *version, "after");
}

static void *work(void *argument) {
	worker_t *w = argument;
	while (1) {
		for (int i = 0; i < 50; i++) change(w);
		uint64_t start = draw(w) % PAGES / THREADS * THREADS + w->index;
		for (uint64_t p = start; p < PAGES && p < start + 512; p += THREADS) check(memory + p * PAGE, p, model->version[p], "walk");
		model->rounds[w->index]++;
	}
	return 0;
}

static void *map(size_t size, int protection, int flags) {
	void *at = mmap(0, size, protection, flags | MAP_ANONYMOUS, -1, 0);
	MUST(at != MAP_FAILED);
	return at;
}

int main(void) {
	model = map(sizeof *model, PROT_READ | PROT_WRITE, MAP_SHARED);
	memory = map((size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	codes = map(CODES * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE);
	for (int p = 0; p < PAGES; p++) fill(memory + (size_t)p * PAGE, p, model->version[p] = 1);
	for (int i = 0; i < CODES; i++) {
		memcpy(codes + i * PAGE, "\xb8\0\0\0\0\xc3", 6); // mov eax, imm32; ret
		memcpy(codes + i * PAGE + 1, &(uint32_t){model->code[i] = i}, 4);
	}
	MUST(signal(SIGSEGV, refuse) != SIG_ERR);
	static worker_t workers[THREADS];
	const char *files[THREADS] = {"/tmp/file", "/root/file"}; // tmpfs or overlay, and overlay
	for (int t = 0; t < THREADS; t++) {
		worker_t *w = &workers[t];
		char name[] = "/tmp/private0", block[PAGE];
		name[sizeof name - 2] += t;
		w->index = t;
		MUST((w->file = open(files[t], O_RDWR | O_CREAT | O_TRUNC, 0644)) >= 0);
		MUST((w->private_file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644)) >= 0);
		for (int b = 0; b < BLOCKS; b++) {
			fill(block, b, model->block[t][b] = 1);
			MUST(pwrite(w->file, block, PAGE, b * PAGE) == PAGE);
		}
		w->scratch = map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
		w->walls = memset(map(WALLS * 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE), 7, WALLS * 4 * PAGE);
		w->shared = map(2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
		pthread_t thread;
		MUST(pthread_create(&thread, 0, work, w) == 0);
	}
	int report = open("/tmp/rounds", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	for (;;) {
		char text[64];
		int length = snprintf(text, sizeof text, "%020lu\n", model->rounds[0] < model->rounds[1] ? model->rounds[0] : model->rounds[1]);
		MUST(pwrite(report, text, length, 0) == length);
		usleep(50000);
	}
}
