/*
 * The C side of AgainstGlibc: runs getopt_long over the command lines that it
 * reads from standard input and writes what came of each to standard output.
 *
 * Strings and numbers, the latter in decimal, end with a NUL byte.
 *
 * First the table is read:
 *     number of short options, for each: its character, has_arg, val;
 *     number of long options, for each: its name, has_arg, val.
 * Every val is 256 or more, so that it is neither '?' nor a character.
 *
 * Then, until the end of the input, command lines:
 *     1 byte of flags, see below;
 *     1 byte: the number of arguments; the arguments.
 *
 * For each, one record is written: 4 bytes, little-endian, with the length of
 * the rest, and
 *     "o", val, long name or "", 1 if there is an argument else 0, the argument
 *     "?", optopt, the message (empty unless asked for)
 * in the order met, at last
 *     ".", the number of operands, the operands.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

enum {
	FLUSH = 1,		/* the peer waits for the answer to this one */
	MESSAGES = 2,		/* opterr = 1 */
	POSIX_EMPTY = 4,	/* POSIXLY_CORRECT= */
	POSIX_ONE = 8,		/* POSIXLY_CORRECT=1 */
};

static void die(const char *text)
{
	dprintf(2, "glibc.c: %s\n", text);
	exit(1);
}

static void *need(void *p)
{
	if (!p)
		die("out of memory");
	return p;
}

static int byte(void)
{
	int c = getc_unlocked(stdin);

	if (c == EOF)
		die("input ends too early");
	return c;
}

/* Reads a string to *at and moves *at beyond it. */
static char *string(char **at, char *end)
{
	char *start = *at;

	do {
		if (*at == end)
			die("string too long");
	} while ((*(*at)++ = byte()));
	return start;
}

static char *string_copy(void)
{
	char buf[4096], *at = buf;

	return need(strdup(string(&at, buf + sizeof buf)));
}

static int number(void)
{
	char buf[32], *at = buf;

	return atoi(string(&at, buf + sizeof buf));
}

static char record[1 << 20];
static size_t record_len;

static void put(const char *s)
{
	size_t n = strlen(s) + 1;

	if (n > sizeof record - record_len)
		die("record too long");
	memcpy(record + record_len, s, n);
	record_len += n;
}

static void put_number(int n)
{
	char buf[32];

	snprintf(buf, sizeof buf, "%d", n);
	put(buf);
}

int main(void)
{
	static char line[1 << 16];
	static char *argv[1 + 255 + 1];
	static char program[] = "prog";
	int val_of[256] = { 0 };
	char optstring[3 * 256 + 1], *o = optstring;
	struct option *longs;
	char *messages = NULL;
	size_t messages_len = 0;
	FILE *message_stream;
	int i, n, c, posix = 0;

#ifndef __GLIBC__
	/* getopttest takes 77 for "cannot be run here". */
	dprintf(2, "the C library is not glibc\n");
	return 77;
#else
	dprintf(2, "glibc %s\n", gnu_get_libc_version());
#endif

	n = number();
	for (i = 0; i < n; i++) {
		char *s = string_copy();
		int has_arg = number();

		*o++ = *s;
		while (has_arg-- > 0)
			*o++ = ':';
		val_of[(unsigned char)*s] = number();
	}
	*o = 0;
	n = number();
	longs = need(calloc(n + 1, sizeof *longs));
	for (i = 0; i < n; i++) {
		longs[i].name = string_copy();
		longs[i].has_arg = number();
		longs[i].val = number();
	}

	/* With opterr set, getopt_long's message says which error it was. */
	message_stream = need(open_memstream(&messages, &messages_len));
	stderr = message_stream;
	unsetenv("POSIXLY_CORRECT");

	while ((c = getc_unlocked(stdin)) != EOF) {
		int flags = c, argc = 1 + byte();
		char *at = line;

		argv[0] = program;
		for (i = 1; i < argc; i++)
			argv[i] = string(&at, line + sizeof line);
		argv[argc] = NULL;

		if (posix != (flags & (POSIX_EMPTY | POSIX_ONE))) {
			posix = flags & (POSIX_EMPTY | POSIX_ONE);
			if (!posix)
				unsetenv("POSIXLY_CORRECT");
			else
				setenv("POSIXLY_CORRECT", posix & POSIX_ONE ? "1" : "", 1);
		}
		opterr = !!(flags & MESSAGES);
		optind = 0;	/* 0, not 1: start over, and read the environment again */
		record_len = 0;
		for (;;) {
			int index = -1;
			int r = getopt_long(argc, argv, optstring, longs, &index);

			if (r == -1)
				break;
			if (r == '?') {
				put("?");
				/* a plain char, which is signed here and not there */
				put_number(optopt < 0 ? optopt & 0xff : optopt);
				if (opterr) {
					/* The rest of a longer one may follow it. */
					fflush(message_stream);
					messages[messages_len] = 0;
					put(messages);
					rewind(message_stream);
				} else {
					put("");
				}
			} else {
				put("o");
				put_number(index < 0 ? val_of[r & 0xff] : r);
				put(index < 0 ? "" : longs[index].name);
				put(optarg ? "1" : "0");
				put(optarg ? optarg : "");
			}
		}
		put(".");
		put_number(argc - optind);
		for (i = optind; i < argc; i++)
			put(argv[i]);

		for (i = 0; i < 4; i++)
			putc_unlocked((record_len >> (8 * i)) & 0xff, stdout);
		fwrite_unlocked(record, 1, record_len, stdout);
		if ((flags & FLUSH) && fflush(stdout))
			die("cannot write");
	}
	if (fflush(stdout))
		die("cannot write");
	return 0;
}
