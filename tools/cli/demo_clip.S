/* SPDX-License-Identifier: MIT */
/* The clip of `eestream demo` and its true classes, as they are on disk; paths come from CMakeLists.txt. */
    .section .rodata
    .macro embed name, file
    .balign 64
    .global \name
    .hidden \name
\name:
    .incbin "\file"
    .global \name\()_end
    .hidden \name\()_end
\name\()_end:
    .byte 0
    .endm

    embed cli_demo_clip, DEMO_CLIP
    embed cli_demo_truth, DEMO_TRUTH

    .section .note.GNU-stack, "", %progbits
