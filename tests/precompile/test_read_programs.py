"""FLOPs and bytes of a program that XLA has optimised, by class of operation."""

import importlib.util
from pathlib import Path

import pytest

PROGRAM = """\
HloModule jit, is_scheduled=true

%fused_slice (p0: f32[5,4,8], p1: s32[]) -> f32[1,4,8] {
  %p0 = f32[5,4,8]{2,1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %slice = f32[1,4,8]{2,1,0} dynamic-slice(%p0, %p1, %zero, %zero), dynamic_slice_sizes={1,4,8}
}

%fused_write (w0: f32[5,4,8], w1: f32[1,4,8], w2: s32[]) -> f32[5,4,8] {
  %w0 = f32[5,4,8]{2,1,0} parameter(0)
  %w1 = f32[1,4,8]{2,1,0} parameter(1)
  %w2 = s32[] parameter(2)
  %none = s32[] constant(0)
  ROOT %put = f32[5,4,8]{2,1,0} dynamic-update-slice(%w0, %w1, %w2, %none, %none)
}

%body (state: (s32[], f32[5,4,8], f32[3,4])) -> (s32[], f32[5,4,8], f32[3,4]) {
  %state = (s32[], f32[5,4,8], f32[3,4]) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %stack = f32[5,4,8]{2,1,0} get-tuple-element(%state), index=1
  %x = f32[3,4]{1,0} get-tuple-element(%state), index=2
  %start = ((f32[5,4,8]{2,1,0}, s32[]), f32[1,4,8]{2,1,0}, u32[]) fusion-start(%stack, %i), kind=kLoop, calls=%fused_slice
  %got = f32[1,4,8]{2,1,0} fusion-done(%start)
  %weights = f32[4,8]{1,0} bitcast(%got)
  %product = (f32[3,8]{1,0}, s8[64]{0}) custom-call(%x, %weights), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
  %written = f32[5,4,8]{2,1,0} fusion(%stack, %got, %i), kind=kLoop, calls=%fused_write
  ROOT %out = (s32[], f32[5,4,8], f32[3,4]) tuple(%i, %written, %x)
}

%condition (s: (s32[], f32[5,4,8], f32[3,4])) -> pred[] {
  ROOT %go = pred[] constant(true)
}

ENTRY %main (a: (s32[], f32[5,4,8], f32[3,4])) -> f32[6] {
  %a = (s32[], f32[5,4,8], f32[3,4]) parameter(0)
  %loop = (s32[], f32[5,4,8], f32[3,4]) while(%a), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %table = f32[100,2]{1,0} constant({...})
  %rows = s32[3,1]{1,0} constant({...})
  ROOT %looked_up = f32[3,2]{1,0} gather(%table, %rows), offset_dims={1}
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def reader():
    path = Path(__file__).parents[2] / "tools" / "read_programs.py"
    spec = importlib.util.spec_from_file_location("read_programs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Reader(PROGRAM)


def test_a_loop_counts_as_often_as_it_runs(reader):
    flops, _, kernels = reader.found["matrix products"]
    assert flops == 5 * 2 * 3 * 4 * 8 and kernels == 5
    assert reader.unknown == 0


def test_of_a_stack_a_slice_is_moved(reader):
    one, index = 4 * 8 * 4, 4
    read, written = 2 * one + index, 2 * one + index  # read here, written there, and where
    assert reader.found["slices of stacks"] == [0, 5 * (read + written), 10]


def test_a_look_up_moves_its_rows(reader):
    assert reader.found["gathers"] == [0, 2 * 3 * 2 * 4 + 3 * 4, 1]
