# A 32-bit program: says `ready`, then answers `ok` to every read, until the end of input. Needs no 32-bit C library.
    .code32
    .globl _start
    .text
_start:
    movl $ready, %ecx
    movl $6, %edx
say:
    movl $4, %eax               # write(1, text, length)
    movl $1, %ebx
    int $0x80
    movl $3, %eax               # read(0, line, 64)
    xorl %ebx, %ebx
    movl $line, %ecx
    movl $64, %edx
    int $0x80
    cmpl $0, %eax
    jle leave
    movl $ok, %ecx
    movl $3, %edx
    jmp say
leave:
    movl $1, %eax               # exit(0)
    xorl %ebx, %ebx
    int $0x80
    .data
ready: .ascii "ready\n"
ok: .ascii "ok\n"
    .bss
line: .skip 64
    .section .note.GNU-stack,"",@progbits
